// RUN: zopt %s --zopt-autodiff --split-input-file --verify-diagnostics | FileCheck %s
// RUN: zopt %s --zopt-autodiff=grad-dtype=f32 --split-input-file --verify-diagnostics | FileCheck %s --check-prefix=WIDE

// A linear layer: transposes are flags, batch and rows of the weight's gradient contract together, the bias' gradient is a sum over rows. Nothing goes to the input.
// CHECK-LABEL: module @linear
// CHECK: train.backward
// CHECK: %[[DY:.*]] = train.broadcast %{{.*}} -> tensor<2x4x5xbf16>
// CHECK-NEXT: %[[ROWS:.*]] = train.reshape %{{.*}} : tensor<2x4x3xbf16> -> tensor<8x3xbf16>
// CHECK-NEXT: %[[DY_ROWS:.*]] = train.reshape %[[DY]] : tensor<2x4x5xbf16> -> tensor<8x5xbf16>
// CHECK-NEXT: %[[DW:.*]] = train.matmul %[[DY_ROWS]], %[[ROWS]] {scale = 5.000000e-01 : f64, transpose_lhs} : tensor<8x5xbf16>, tensor<8x3xbf16> -> tensor<5x3xbf16>
// CHECK-NEXT: train.accumulate @w, %[[DW]] : tensor<5x3xbf16>
// CHECK-NEXT: %[[DB:.*]] = train.reduce_sum %[[DY]] [0, 1] : tensor<2x4x5xbf16> -> tensor<5xbf16>
// CHECK-NEXT: train.accumulate @b, %[[DB]] : tensor<5xbf16>
// CHECK-NEXT: return

// What sums in fp32 and rounds once gives the gradient in its type; nothing is cast.
// WIDE-LABEL: module @linear
// WIDE: train.backward
// WIDE: train.matmul %{{.*}}, %{{.*}} {scale = 5.000000e-01 : f64, transpose_lhs} : tensor<8x5xbf16>, tensor<8x3xbf16> -> tensor<5x3xf32>
// WIDE: train.reduce_sum %{{.*}} [0, 1] : tensor<2x4x5xbf16> -> tensor<5xf32>
// WIDE-NOT: train.cast
module @linear {
  train.state @w : tensor<5x3xf32> {role = #train.role<parameter>, trained}
  train.state @b : tensor<5xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%x: tensor<2x4x3xbf16>, %seed: tensor<f32>) {
    %w = train.read_state @w : tensor<5x3xbf16>
    %b = train.read_state @b : tensor<5xbf16>
    %y = train.matmul %x, %w bias %b : tensor<5xbf16> {transpose_rhs, scale = 0.5 : f64} : tensor<2x4x3xbf16>, tensor<5x3xbf16> -> tensor<2x4x5xbf16>
    %loss = train.reduce_sum %y [0, 1, 2] : tensor<2x4x5xbf16> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}

// -----

// Slices that tile a value (a Split) give one concat. The two uses of @w (a tied weight) are added, in the order of the backward walk.
// CHECK-LABEL: module @split
// CHECK: train.backward
// CHECK-NOT: train.slice_grad
// CHECK: %[[CONCAT:.*]] = train.concat 1, %[[LEFT:.*]], %[[RIGHT:.*]] : tensor<2x2xf32>, tensor<2x2xf32> -> tensor<2x4xf32>
// CHECK-NOT: train.slice_grad
// CHECK: %[[LATE:.*]] = train.matmul %{{.*}} -> tensor<4x4xf32>
// CHECK: %[[SUM:.*]] = train.add %{{.*}}, %[[LATE]] : tensor<4x4xf32>, tensor<4x4xf32> -> tensor<4x4xf32>
// CHECK-NEXT: train.accumulate @w, %[[SUM]]
module @split {
  train.state @w : tensor<4x4xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%x: tensor<2x4xf32>, %seed: tensor<f32>) {
    %w = train.read_state @w : tensor<4x4xf32>
    %h = train.matmul %x, %w : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
    %a = train.slice %h [0, 0] [1, 1] : tensor<2x4xf32> -> tensor<2x2xf32>
    %b = train.slice %h [0, 2] [1, 1] : tensor<2x4xf32> -> tensor<2x2xf32>
    %s = train.sub %a, %b : tensor<2x2xf32>, tensor<2x2xf32> -> tensor<2x2xf32>
    %t = train.concat 1, %s, %s : tensor<2x2xf32>, tensor<2x2xf32> -> tensor<2x4xf32>
    %y = train.matmul %t, %w {transpose_rhs} : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
    %loss = train.reduce_sum %y [0, 1] : tensor<2x4xf32> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}

// -----

// A gap between the slices: the padded gradients are added.
// CHECK-LABEL: module @gap
// CHECK: train.backward
// CHECK: %[[B:.*]] = train.slice_grad %{{.*}} [3] [1]
// CHECK: %[[A:.*]] = train.slice_grad %{{.*}} [0] [1]
// CHECK: train.add %[[B]], %[[A]]
module @gap {
  train.state @w : tensor<5xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%seed: tensor<f32>) {
    %w = train.read_state @w : tensor<5xf32>
    %a = train.slice %w [0] [1] : tensor<5xf32> -> tensor<2xf32>
    %b = train.slice %w [3] [1] : tensor<5xf32> -> tensor<2xf32>
    %s = train.mul %a, %b : tensor<2xf32>, tensor<2xf32> -> tensor<2xf32>
    %loss = train.reduce_sum %s [0] : tensor<2xf32> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}

// -----

// Broadcast axes are summed, leading ones and ones of size 1 in one reduction.
// CHECK-LABEL: module @broadcast
// CHECK: train.backward
// CHECK: %[[SUM:.*]] = train.reduce_sum %{{.*}} [0, 2] : tensor<2x3x4xf32> -> tensor<3xf32>
// CHECK-NEXT: %[[DW:.*]] = train.reshape %[[SUM]] : tensor<3xf32> -> tensor<3x1xf32>
// CHECK-NEXT: train.accumulate @w, %[[DW]]
module @broadcast {
  train.state @w : tensor<3x1xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%x: tensor<2x3x4xf32>, %seed: tensor<f32>) {
    %w = train.read_state @w : tensor<3x1xf32>
    %y = train.mul %x, %w : tensor<2x3x4xf32>, tensor<3x1xf32> -> tensor<2x3x4xf32>
    %loss = train.reduce_sum %y [0, 1, 2] : tensor<2x3x4xf32> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}

// -----

// A frozen parameter gets no gradient, and what only it needs is not computed. A trained one that the loss does not depend on is not trained any more.
// CHECK-LABEL: module @frozen
// CHECK: train.state @unused : tensor<3xf32> {role = #train.role<parameter>}
// CHECK: train.backward
// CHECK-NOT: train.accumulate @frozen
// CHECK: train.accumulate @w
// CHECK-NOT: train.accumulate
module @frozen {
  train.state @frozen : tensor<3xf32> {role = #train.role<parameter>}
  train.state @w : tensor<3xf32> {role = #train.role<parameter>, trained}
  // expected-remark@+1 {{parameter 'unused' is not trained: the loss does not depend on it}}
  train.state @unused : tensor<3xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%x: tensor<3xf32>, %seed: tensor<f32>) {
    %f = train.read_state @frozen : tensor<3xf32>
    %w = train.read_state @w : tensor<3xf32>
    %g = train.exp %f : tensor<3xf32>
    %y = train.mul %g, %w : tensor<3xf32>, tensor<3xf32> -> tensor<3xf32>
    %loss = train.reduce_sum %y [0] : tensor<3xf32> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}

// -----

// Norm, attention and cross-entropy leave statistics for their derivatives; logits that feed the loss take its seed as their scale.
// CHECK-LABEL: module @rows
// CHECK: %[[N:.*]], %[[MEAN:.*]], %[[RSTD:.*]] = train.layer_norm %[[X:.*]] gamma
// CHECK: %{{.*}}, %{{.*}}, %[[LSE:.*]] = train.cross_entropy %[[N]], %[[LABELS:.*]] {ignore_index = -1 : i64}
// CHECK: train.backward %{{.*}} seed %[[SEED:.*]] :
// CHECK-NEXT: %[[DN:.*]] = train.cross_entropy_grad %[[N]], %[[LABELS]], %[[LSE]], %[[SEED]] {ignore_index = -1 : i64}
// CHECK-NEXT: %[[DG:.*]], %[[DB:.*]] = train.layer_norm_parameter_grad %[[X]] mean %[[MEAN]] rstd %[[RSTD]] cotangent %[[DN]]
// CHECK-NEXT: train.accumulate @beta, %[[DB]]
// CHECK-NEXT: train.accumulate @gamma, %[[DG]]
// CHECK-NEXT: return
module @rows {
  train.state @gamma : tensor<3xf32> {role = #train.role<parameter>, trained}
  train.state @beta : tensor<3xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%x: tensor<2x3xf32>, %labels: tensor<2xi64>, %seed: tensor<f32>) {
    %g = train.read_state @gamma : tensor<3xf32>
    %b = train.read_state @beta : tensor<3xf32>
    %n, %mean, %rstd = train.layer_norm %x gamma %g : tensor<3xf32> beta %b : tensor<3xf32> {epsilon = 1.0e-5 : f64} : tensor<2x3xf32> -> tensor<2x3xf32>, tensor<2xf32>
    %loss, %count, %lse = train.cross_entropy %n, %labels {ignore_index = -1 : i64} : tensor<2x3xf32>, tensor<2xi64> -> tensor<f32>, tensor<2xf32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}
