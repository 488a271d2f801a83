// RUN: zopt %s --pass-pipeline="builtin.module(zopt-assign-placement{stage=0},zopt-materialize-collectives,zopt-assign-residuals,zopt-specialize{world-size=1},zopt-convert-zero-to-plan{target=cuda},zopt-verify-plan)" | FileCheck %s

module attributes {train.level = "step", train.model = "model.onnx", train.micro_batch = 64 : i64, train.accum_steps = 1 : i64, train.loss_average = "global", train.learning_rate = 1.0e-3 : f64, train.mode = "train"} {
  train.state @w : tensor<64x64xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @lr : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  // CHECK-LABEL: plan.sequence @micro_step
  func.func @micro_step(%x: tensor<64x64xbf16> {train.name = "x"}, %y: tensor<64x64xbf16> {train.name = "y"}) {
    %w = train.read_state @w : tensor<64x64xbf16>
    // CHECK: plan.launch @neg{{.*}} [@x.value, @[[R:t[0-9]+]]]
    %r = train.neg %x : tensor<64x64xbf16>
    // A product takes the place of the addend.
    // CHECK: plan.matmul @y.value x @{{.*}} -> @[[R]] {addend = @[[R]]
    %a = train.fused_matmul %y, %w addend %r {resultSegmentSizes = array<i32: 1, 0, 0>} : (tensor<64x64xbf16>, tensor<64x64xbf16>, tensor<64x64xbf16>) -> tensor<64x64xbf16>
    // Not where the addend is a factor too: what a library reads while it writes must not be written over.
    // CHECK: plan.matmul @[[R]] x @{{.*}} -> @[[T:t[0-9]+]] {addend = @[[R]]
    // CHECK: plan.matmul @y.value x @[[T]] -> @[[U:t[0-9]+]] {addend = @[[T]]
    %b = train.fused_matmul %a, %w addend %a {resultSegmentSizes = array<i32: 1, 0, 0>} : (tensor<64x64xbf16>, tensor<64x64xbf16>, tensor<64x64xbf16>) -> tensor<64x64xbf16>
    %c = train.fused_matmul %y, %b addend %b {resultSegmentSizes = array<i32: 1, 0, 0>} : (tensor<64x64xbf16>, tensor<64x64xbf16>, tensor<64x64xbf16>) -> tensor<64x64xbf16>
    // A kernel with two results writes both over what it reads for the last time.
    // CHECK: plan.launch @fused{{.*}} [@[[U]], @[[E:t[0-9]+]], @[[U]], @[[E]]]
    %e = train.neg %x : tensor<64x64xbf16>
    %f:2 = train.fused(%c, %e) {
    ^bb0(%p: tensor<64x64xbf16>, %q: tensor<64x64xbf16>):
      %s = train.add %p, %q : tensor<64x64xbf16>, tensor<64x64xbf16> -> tensor<64x64xbf16>
      %t = train.mul %p, %q : tensor<64x64xbf16>, tensor<64x64xbf16> -> tensor<64x64xbf16>
      train.yield %s, %t : tensor<64x64xbf16>, tensor<64x64xbf16>
    } : (tensor<64x64xbf16>, tensor<64x64xbf16>) -> (tensor<64x64xbf16>, tensor<64x64xbf16>)
    // CHECK: plan.matmul @[[U]] x @[[E]]
    %g = train.matmul %f#0, %f#1 : tensor<64x64xbf16>, tensor<64x64xbf16> -> tensor<64x64xbf16>
    %d = train.neg %g : tensor<64x64xbf16>
    train.accumulate @w, %d : tensor<64x64xbf16>
    return
  }
  func.func @apply_step() {
    %norm = train.gradient_norm : tensor<f32>
    %lr = train.read_state @lr : tensor<f32>
    train.update @w using @sgd scale %norm lr %lr step %lr finite %lr decay 0.0 : tensor<f32>
    return
  }
}
