// RUN: zopt %s | zopt | FileCheck %s

// Every op parses, prints, and parses again as what it was.

// CHECK-LABEL: module @explicit
module @explicit {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @e : tensor<256xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @r : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @q : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  // CHECK: zero.group @data
  zero.group @data
  // CHECK: zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute bf16 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute bf16 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  // Elements behind a segment that are zeros.
  // CHECK: zero.bucket @reserved on @data {{.*}}segments = [#zero.segment<@r, 0, 128, reserved 64>, #zero.segment<@q, 256, 10>]}
  zero.bucket @reserved on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@r, 0, 128, reserved 64>, #zero.segment<@q, 256, 10, reserved 0>]}
  // CHECK: zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  // CHECK: zero.bucket @kept on @data parameters sharded gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@e, 0, 256>]}
  zero.bucket @kept on @data parameters sharded gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@e, 0, 256>]}

  // CHECK-LABEL: func.func @micro_step
  func.func @micro_step(%dw: tensor<4x32xf32>) -> tensor<4x32xbf16> {
    // CHECK: %[[G:.*]] = zero.all_gather @sharded : !zero.gathered
    %g = zero.all_gather @sharded : !zero.gathered
    // CHECK: %[[W:.*]] = zero.view %[[G]] @w : tensor<4x32xbf16>
    %w = zero.view %g @w : tensor<4x32xbf16>
    // CHECK: %[[N:.*]] = train.neg %[[W]]
    %n = train.neg %w : tensor<4x32xbf16>
    // CHECK: zero.free %[[G]]
    zero.free %g
    // CHECK: zero.reduce_gradients @sharded(%{{.*}}) : tensor<4x32xf32>
    zero.reduce_gradients @sharded (%dw) : tensor<4x32xf32>
    return %n : tensor<4x32xbf16>
  }
  // CHECK-LABEL: func.func @apply_step
  func.func @apply_step() -> tensor<f32> {
    // CHECK: %[[WORLD:.*]] = zero.world_size : tensor<f32>
    %world = zero.world_size : tensor<f32>
    // CHECK: %[[STEPS:.*]] = zero.accum_steps : tensor<f32>
    %steps = zero.accum_steps : tensor<f32>
    // CHECK: %[[SUMS:.*]]:2 = zero.all_reduce @data(%[[WORLD]], %[[STEPS]]) : tensor<f32>, tensor<f32> -> tensor<f32>, tensor<f32>
    %sums:2 = zero.all_reduce @data (%world, %steps) : tensor<f32>, tensor<f32> -> tensor<f32>, tensor<f32>
    // CHECK: %[[NORM:.*]] = zero.gradient_norm @data [@sharded, @published] : tensor<f32>
    %norm = zero.gradient_norm @data [@sharded, @published] : tensor<f32>
    // CHECK: zero.update @published scale %[[SUMS]]#0 lr %[[SUMS]]#1 step %[[WORLD]] finite %[[NORM]] decays [1.000000e-02] : tensor<f32>
    zero.update @published scale %sums#0 lr %sums#1 step %world finite %norm decays [0.01] : tensor<f32>
    // CHECK: zero.publish @published
    zero.publish @published
    return %norm : tensor<f32>
  }
}
