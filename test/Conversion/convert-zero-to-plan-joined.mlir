// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=0 bucket-bytes=65536},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=1},zopt-convert-zero-to-plan{target=cuda},zopt-verify-plan)" | FileCheck %s
// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=0 bucket-bytes=8192},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=1},zopt-convert-zero-to-plan{target=cuda},zopt-verify-plan)" | FileCheck %s --check-prefix=APART

// Neighbours in a bucket are one matrix as they lie, and the product that makes the gradients of both is written into the bucket as a whole.
// CHECK-LABEL: plan.sequence @micro_step
// CHECK: plan.matmul @{{.*}} x @bucket0.parameters -> @[[Y:t[0-9]+]] {{.*}}rhs_operand = #plan.operand<f32, [96, 64], [64, 1]>
// CHECK: plan.matmul @{{.*}} -> @bucket0.gradient {{.*}}out_operand = #plan.operand<f32, [96, 64], [64, 1]>
// CHECK-NOT: plan.copy
// CHECK: plan.sequence @apply_step

// In buckets of their own they are copied, and the gradients too.
// APART-LABEL: plan.sequence @micro_step
// APART: plan.copy @bucket0.parameters
// APART: plan.copy @bucket1.parameters
// APART: plan.matmul
// APART: plan.copy @[[W:t[0-9]+]] at 0 to @bucket0.gradient
// APART: plan.copy @[[W]] at 16384 to @bucket1.gradient
// APART: plan.sequence @apply_step
module attributes {train.level = "step", train.model = "model.onnx", train.micro_batch = 64 : i64, train.accum_steps = 1 : i64, train.loss_average = "global", train.learning_rate = 1.0e-3 : f64, train.mode = "train"} {
  train.state @a : tensor<64x64xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<32x64xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @lr : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  func.func @micro_step(%x: tensor<64x96xf32> {train.name = "x"}) {
    %a = train.read_state @a : tensor<64x64xf32>
    %b = train.read_state @b : tensor<32x64xf32>
    %w = train.concat 0, %a, %b : tensor<64x64xf32>, tensor<32x64xf32> -> tensor<96x64xf32>
    %y = train.matmul %x, %w : tensor<64x96xf32>, tensor<96x64xf32> -> tensor<64x64xf32>
    %dw = train.matmul %x, %y {transpose_lhs} : tensor<64x96xf32>, tensor<64x64xf32> -> tensor<96x64xf32>
    %da = train.slice %dw [0, 0] [1, 1] : tensor<96x64xf32> -> tensor<64x64xf32>
    %db = train.slice %dw [64, 0] [1, 1] : tensor<96x64xf32> -> tensor<32x64xf32>
    train.accumulate @a, %da : tensor<64x64xf32>
    train.accumulate @b, %db : tensor<32x64xf32>
    return
  }
  func.func @apply_step() {
    %norm = train.gradient_norm : tensor<f32>
    %lr = train.read_state @lr : tensor<f32>
    train.update @a using @sgd scale %norm lr %lr step %lr finite %lr decay 0.0 : tensor<f32>
    train.update @b using @sgd scale %norm lr %lr step %lr finite %lr decay 0.0 : tensor<f32>
    return
  }
}
