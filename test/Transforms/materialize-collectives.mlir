// RUN: zopt %s --zopt-materialize-collectives --zopt-assign-residuals --zopt-verify-explicit | FileCheck %s

// Three layers in three sharded buckets, the first of which is used again by the last layer (tied), and one replicated bucket with sharded optimizer state.
module attributes {train.level = "step", train.mode = "train"} {
  train.state @w0 : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @w1 : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @w2 : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @scale : tensor<8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @zopt.loss_sum : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.state @zopt.lr : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w0, 0, 64>]}
  zero.bucket @bucket1 on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w1, 0, 64>]}
  zero.bucket @bucket2 on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w2, 0, 64>]}
  zero.bucket @small on @data parameters replicated gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@scale, 0, 8>]}

  // CHECK: train.level = "explicit"
  // CHECK-LABEL: func.func @micro_step
  func.func @micro_step(%x: tensor<4x8xf32> {train.name = "x"}) {
    %w0 = train.read_state @w0 : tensor<8x8xf32>
    %w1 = train.read_state @w1 : tensor<8x8xf32>
    %w2 = train.read_state @w2 : tensor<8x8xf32>
    // What is replicated is read as before.
    // CHECK: train.read_state @scale
    %scale = train.read_state @scale : tensor<8xf32>
    %t1 = train.transpose %w1 [1, 0] : tensor<8x8xf32> -> tensor<8x8xf32>

    // CHECK-NEXT: %[[G0:.*]] = zero.all_gather @bucket0
    // CHECK-NEXT: %[[W0:.*]] = zero.view %[[G0]] @w0
    // CHECK-NEXT: %[[H0:.*]] = train.matmul %{{.*}}, %[[W0]] {zero.residual = "keep"}
    // CHECK-NEXT: zero.free %[[G0]]
    %h0 = train.matmul %x, %w0 : tensor<4x8xf32>, tensor<8x8xf32> -> tensor<4x8xf32>
    // The transposition is computed from the parameter alone: it goes where it is used.
    // CHECK-NEXT: %[[G1:.*]] = zero.all_gather @bucket1
    // CHECK-NEXT: %[[W1:.*]] = zero.view %[[G1]] @w1
    // CHECK-NEXT: %[[T1:.*]] = train.transpose %[[W1]]
    // CHECK-NEXT: train.matmul %[[H0]], %[[T1]] {zero.residual = "keep"}
    // CHECK-NEXT: zero.free %[[G1]]
    %h1 = train.matmul %h0, %t1 : tensor<4x8xf32>, tensor<8x8xf32> -> tensor<4x8xf32>
    // CHECK-NEXT: %[[G2:.*]] = zero.all_gather @bucket2
    // CHECK: zero.free %[[G2]]
    %h2 = train.matmul %h1, %w2 : tensor<4x8xf32>, tensor<8x8xf32> -> tensor<4x8xf32>
    // Two other buckets were used since: it is gathered again.
    // CHECK: %[[G3:.*]] = zero.all_gather @bucket0
    // CHECK: zero.free %[[G3]]
    %h3 = train.matmul %h2, %w0 : tensor<4x8xf32>, tensor<8x8xf32> -> tensor<4x8xf32>
    %h4 = train.mul %h3, %scale : tensor<4x8xf32>, tensor<8xf32> -> tensor<4x8xf32>
    %loss = train.reduce_sum %h4 [0, 1] : tensor<4x8xf32> -> tensor<f32>
    // A scalar stays a scalar.
    // CHECK: train.accumulate @zopt.loss_sum
    train.accumulate @zopt.loss_sum, %loss : tensor<f32>
    %seed = train.constant dense<1.0> : tensor<f32> : tensor<f32>
    // CHECK: train.backward
    train.backward %loss seed %seed : tensor<f32>
    %d4 = train.broadcast %seed : tensor<f32> -> tensor<4x8xf32>
    %dscale = train.reduce_sum %h3 [0] : tensor<4x8xf32> -> tensor<8xf32>
    // A reduction follows the bucket's last gradient.
    // CHECK: %[[DSCALE:.*]] = train.reduce_sum
    // CHECK-NEXT: zero.reduce_gradients @small(%[[DSCALE]])
    train.accumulate @scale, %dscale : tensor<8xf32>
    %dw0a = train.matmul %h2, %d4 {transpose_lhs} : tensor<4x8xf32>, tensor<4x8xf32> -> tensor<8x8xf32>
    // Backward gathers again. A range goes on while one other bucket is used in between: bucket0 here is used once more, after bucket2.
    // CHECK: %[[B0:.*]] = zero.all_gather @bucket0
    // CHECK: %[[B2:.*]] = zero.all_gather @bucket2
    // CHECK: zero.free %[[B2]]
    // CHECK: train.matmul
    // CHECK: zero.free %[[B0]]
    %d3 = train.matmul %d4, %w0 {transpose_rhs} : tensor<4x8xf32>, tensor<8x8xf32> -> tensor<4x8xf32>
    %dw2 = train.matmul %h1, %d3 {transpose_lhs} : tensor<4x8xf32>, tensor<4x8xf32> -> tensor<8x8xf32>
    train.accumulate @w2, %dw2 : tensor<8x8xf32>
    %d2 = train.matmul %d3, %w2 {transpose_rhs} : tensor<4x8xf32>, tensor<8x8xf32> -> tensor<4x8xf32>
    %d1 = train.matmul %d2, %w0 {transpose_rhs} : tensor<4x8xf32>, tensor<8x8xf32> -> tensor<4x8xf32>
    // CHECK: %[[B1:.*]] = zero.all_gather @bucket1
    // CHECK: %[[V1:.*]] = zero.view %[[B1]] @w1
    // CHECK: train.transpose %[[V1]]
    // CHECK: zero.free %[[B1]]
    %d0 = train.matmul %d1, %t1 {transpose_rhs} : tensor<4x8xf32>, tensor<8x8xf32> -> tensor<4x8xf32>
    %dw1 = train.matmul %d1, %h0 {transpose_lhs} : tensor<4x8xf32>, tensor<4x8xf32> -> tensor<8x8xf32>
    // CHECK: zero.reduce_gradients @bucket1
    train.accumulate @w1, %dw1 : tensor<8x8xf32>
    %dw0b = train.matmul %x, %d0 {transpose_lhs} : tensor<4x8xf32>, tensor<4x8xf32> -> tensor<8x8xf32>
    // CHECK: %[[SUM:.*]] = train.add
    // CHECK-NEXT: zero.reduce_gradients @bucket0(%[[SUM]])
    %dw0 = train.add %dw0a, %dw0b : tensor<8x8xf32>, tensor<8x8xf32> -> tensor<8x8xf32>
    train.accumulate @w0, %dw0 : tensor<8x8xf32>
    return
  }

  // CHECK-LABEL: func.func @apply_step
  func.func @apply_step() {
    // What micro-steps of a rank accumulated is summed over ranks.
    // CHECK: %[[OWN:.*]] = train.read_state @zopt.loss_sum
    // CHECK-NEXT: %[[SUM:.*]] = zero.all_reduce @data(%[[OWN]])
    %loss = train.read_state @zopt.loss_sum : tensor<f32>
    // CHECK: %[[LR:.*]] = train.read_state @zopt.lr
    %lr = train.read_state @zopt.lr : tensor<f32>
    // CHECK: %[[NORM:.*]] = zero.gradient_norm @data [@bucket0, @bucket1, @bucket2, @small]
    %norm = train.gradient_norm : tensor<f32>
    // CHECK-NOT: train.update
    // CHECK: zero.update @bucket0 scale %[[NORM]] lr %[[LR]] step %[[SUM]] finite %[[NORM]] decays [1.000000e-02]
    // CHECK: zero.update @bucket2
    // CHECK: zero.update @small {{.*}} decays [0.000000e+00]
    // CHECK-NEXT: zero.publish @small
    // CHECK-NOT: zero.publish
    train.update @w0 using @sgd scale %norm lr %lr step %loss finite %norm decay 0.01 : tensor<f32>
    train.update @w1 using @sgd scale %norm lr %lr step %loss finite %norm decay 0.01 : tensor<f32>
    train.update @w2 using @sgd scale %norm lr %lr step %loss finite %norm decay 0.01 : tensor<f32>
    train.update @scale using @sgd scale %norm lr %lr step %loss finite %norm decay 0.0 : tensor<f32>
    return
  }
}
