// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=0},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=1},zopt-convert-zero-to-plan{threads=1},zopt-verify-plan)" | FileCheck %s
// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=3 bucket-bytes=65536},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=2},zopt-convert-zero-to-plan{threads=1},zopt-verify-plan)" | FileCheck %s --check-prefix=SHARED

// A sum of gradients is added up in its bucket, from its first term on; a term that something else reads (of @v) is not
// written there.
// CHECK-LABEL: plan.sequence @micro_step
// CHECK: plan.matmul @{{.*}} -> @bucket0.gradient
// CHECK: plan.matmul @{{.*}} -> @[[B:t[0-9]+]]
// CHECK: plan.launch @{{.*}} [@bucket0.gradient, @[[B]], @bucket0.gradient]
// CHECK: plan.matmul @{{.*}} -> @[[C:t[0-9]+]]
// CHECK: plan.launch @{{.*}} [@bucket0.gradient, @[[C]], @bucket0.gradient]
// CHECK: plan.matmul @{{.*}} -> @[[D:t[0-9]+]]
// CHECK: plan.launch @{{.*}} [@[[D]], @[[D]], @bucket1.gradient]
// CHECK: plan.sequence @apply_step

// A bucket of several gradients that lives until it is reduced does not begin to live earlier for one of them.
// SHARED-LABEL: plan.sequence @micro_step
// SHARED: plan.matmul @{{.*}} -> @[[A:t[0-9]+]]
// SHARED: plan.matmul @{{.*}} -> @[[B:t[0-9]+]]
// SHARED: plan.launch @{{.*}} [@[[A]], @[[B]], @[[AB:t[0-9]+]]]
// SHARED: plan.matmul @{{.*}} -> @[[C:t[0-9]+]]
// SHARED: plan.launch @{{.*}} [@[[AB]], @[[C]], @[[BUCKET:t[0-9]+]]]
// SHARED: plan.reduce_scatter {{.*}}@[[BUCKET]]
module attributes {train.level = "step", train.model = "model.onnx", train.micro_batch = 64 : i64, train.accum_steps = 1 : i64, train.loss_average = "global", train.learning_rate = 1.0e-3 : f64, train.mode = "train"} {
  train.state @w : tensor<64x64xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<64x64xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @lr : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  func.func @micro_step(%x: tensor<64x64xf32> {train.name = "x"}, %y: tensor<64x64xf32> {train.name = "y"}) {
    %w = train.read_state @w : tensor<64x64xf32>
    %v = train.read_state @v : tensor<64x64xf32>
    %a = train.matmul %x, %w : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
    %b = train.matmul %x, %v : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
    %ab = train.add %a, %b : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
    %c = train.matmul %y, %x : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
    %abc = train.add %ab, %c : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
    train.accumulate @w, %abc : tensor<64x64xf32>
    %d = train.matmul %y, %y : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
    %dd = train.add %d, %d : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
    train.accumulate @v, %dd : tensor<64x64xf32>
    return
  }
  func.func @apply_step() {
    %norm = train.gradient_norm : tensor<f32>
    %lr = train.read_state @lr : tensor<f32>
    train.update @w using @sgd scale %norm lr %lr step %lr finite %lr decay 0.0 : tensor<f32>
    train.update @v using @sgd scale %norm lr %lr step %lr finite %lr decay 0.0 : tensor<f32>
    return
  }
}
