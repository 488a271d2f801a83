// RUN: zopt %s --zopt-autodiff --split-input-file | FileCheck %s
// RUN: zopt %s --zopt-autodiff=grad-dtype=f64 --split-input-file | FileCheck %s --check-prefix=WIDE

// Four uses of @w: their products are added where all are there, from the last use to the first.
// CHECK-LABEL: module @few
// CHECK: train.backward
// CHECK: %[[D:.*]] = train.matmul %{{.*}} {transpose_lhs}
// CHECK-NOT: train.add
// CHECK: %[[C:.*]] = train.matmul %{{.*}} {transpose_lhs}
// CHECK-NOT: train.add
// CHECK: %[[B:.*]] = train.matmul %{{.*}} {transpose_lhs}
// CHECK-NOT: train.add
// CHECK: %[[A:.*]] = train.matmul %{{.*}} {transpose_lhs}
// CHECK-NEXT: %[[DC:.*]] = train.add %[[D]], %[[C]]
// CHECK-NEXT: %[[DCB:.*]] = train.add %[[DC]], %[[B]]
// CHECK-NEXT: %[[DCBA:.*]] = train.add %[[DCB]], %[[A]]
// CHECK-NEXT: train.accumulate @w, %[[DCBA]]
module @few {
  train.state @w : tensor<4x4xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%x: tensor<2x4xf32>, %seed: tensor<f32>) {
    %w = train.read_state @w : tensor<4x4xf32>
    %a = train.matmul %x, %w : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
    %b = train.matmul %a, %w : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
    %c = train.matmul %b, %w : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
    %d = train.matmul %c, %w : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
    %loss = train.reduce_sum %d [0, 1] : tensor<2x4xf32> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}

// -----

// Five uses: each product is added as soon as it is there. The seed's broadcast stands before the first; what is cast to
// the gradient's type is cast there, too.
// CHECK-LABEL: module @many
// CHECK: train.backward
// CHECK: train.mul
// CHECK-NEXT: %[[E:.*]] = train.mul
// CHECK-NEXT: train.mul
// CHECK-NEXT: %[[D:.*]] = train.mul
// CHECK-NEXT: %[[ED:.*]] = train.add %[[E]], %[[D]]
// CHECK-NEXT: train.mul
// CHECK-NEXT: %[[C:.*]] = train.mul
// CHECK-NEXT: %[[EDC:.*]] = train.add %[[ED]], %[[C]]
// CHECK-NEXT: train.mul
// CHECK-NEXT: %[[B:.*]] = train.mul
// CHECK-NEXT: %[[EDCB:.*]] = train.add %[[EDC]], %[[B]]
// CHECK-NEXT: %[[A:.*]] = train.mul
// CHECK-NEXT: %[[EDCBA:.*]] = train.add %[[EDCB]], %[[A]]
// CHECK-NEXT: train.accumulate @w, %[[EDCBA]]
// WIDE-LABEL: module @many
// WIDE: train.backward
// WIDE: train.mul
// WIDE-NEXT: %[[E:.*]] = train.mul
// WIDE-NEXT: %[[E64:.*]] = train.cast %[[E]]
// WIDE-NEXT: train.mul
// WIDE-NEXT: %[[D:.*]] = train.mul
// WIDE-NEXT: %[[D64:.*]] = train.cast %[[D]]
// WIDE-NEXT: train.add %[[E64]], %[[D64]] : tensor<4xf64>
// WIDE-NEXT: train.mul
module @many {
  train.state @w : tensor<4xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%x: tensor<4xf32>, %seed: tensor<f32>) {
    %w = train.read_state @w : tensor<4xf32>
    %a = train.mul %x, %w : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %b = train.mul %a, %w : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %c = train.mul %b, %w : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %d = train.mul %c, %w : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %e = train.mul %d, %w : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %loss = train.reduce_sum %e [0] : tensor<4xf32> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}

// -----

// The same of a value that is no parameter: %h is read five times.
// CHECK-LABEL: module @value
// CHECK: train.backward
// CHECK: %[[E:.*]] = train.tanh_grad
// CHECK: %[[D:.*]] = train.tanh_grad
// CHECK-NEXT: %[[ED:.*]] = train.add %[[E]], %[[D]]
// CHECK: %[[C:.*]] = train.tanh_grad
// CHECK-NEXT: %[[EDC:.*]] = train.add %[[ED]], %[[C]]
// CHECK: %[[B:.*]] = train.tanh_grad
// CHECK-NEXT: %[[EDCB:.*]] = train.add %[[EDC]], %[[B]]
// CHECK: %[[A:.*]] = train.tanh_grad
// CHECK-NEXT: train.add %[[EDCB]], %[[A]]
module @value {
  train.state @w : tensor<4xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%x: tensor<4xf32>, %seed: tensor<f32>) {
    %w = train.read_state @w : tensor<4xf32>
    %h = train.mul %x, %w : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %a = train.tanh %h : tensor<4xf32>
    %b = train.tanh %h : tensor<4xf32>
    %c = train.tanh %h : tensor<4xf32>
    %d = train.tanh %h : tensor<4xf32>
    %e = train.tanh %h : tensor<4xf32>
    %0 = train.mul %a, %b : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %1 = train.mul %0, %c : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %2 = train.mul %1, %d : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %3 = train.mul %2, %e : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %loss = train.reduce_sum %3 [0] : tensor<4xf32> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}

// -----

// Slices that tile %h are concatenated first, whatever else reads it.
// CHECK-LABEL: module @tiled
// CHECK: train.backward
// CHECK: %[[D:.*]] = train.tanh_grad
// CHECK: %[[C:.*]] = train.tanh_grad
// CHECK: %[[B:.*]] = train.tanh_grad
// CHECK-NOT: train.add
// CHECK: %[[TILED:.*]] = train.concat 0
// CHECK-NEXT: %[[TD:.*]] = train.add %[[TILED]], %[[D]]
// CHECK-NEXT: %[[TDC:.*]] = train.add %[[TD]], %[[C]]
// CHECK-NEXT: train.add %[[TDC]], %[[B]]
module @tiled {
  train.state @w : tensor<4xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%x: tensor<4xf32>, %seed: tensor<f32>) {
    %w = train.read_state @w : tensor<4xf32>
    %h = train.mul %x, %w : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %l = train.slice %h [0] [1] : tensor<4xf32> -> tensor<2xf32>
    %r = train.slice %h [2] [1] : tensor<4xf32> -> tensor<2xf32>
    %b = train.tanh %h : tensor<4xf32>
    %c = train.tanh %h : tensor<4xf32>
    %d = train.tanh %h : tensor<4xf32>
    %a = train.concat 0, %r, %l : tensor<2xf32>, tensor<2xf32> -> tensor<4xf32>
    %0 = train.mul %a, %b : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %1 = train.mul %0, %c : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %2 = train.mul %1, %d : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %loss = train.reduce_sum %2 [0] : tensor<4xf32> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}

// -----

// What the slice of %s sends goes on to both @v and @w: that it tiles @w with another slice takes it from @w alone.
// CHECK-LABEL: module @handed_on
// CHECK: train.backward
// CHECK: %[[PADDED:.*]] = train.slice_grad %[[PART:.*]] [0] [1]
// CHECK-NEXT: train.accumulate @v, %[[PADDED]]
// CHECK: train.concat 0, %[[PART]]
module @handed_on {
  train.state @v : tensor<4xf32> {role = #train.role<parameter>, trained}
  train.state @w : tensor<4xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%seed: tensor<f32>) {
    %v = train.read_state @v : tensor<4xf32>
    %w = train.read_state @w : tensor<4xf32>
    %r = train.slice %w [2] [1] : tensor<4xf32> -> tensor<2xf32>
    %s = train.add %v, %w : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
    %l = train.slice %s [0] [1] : tensor<4xf32> -> tensor<2xf32>
    %p = train.mul %l, %r : tensor<2xf32>, tensor<2xf32> -> tensor<2xf32>
    %loss = train.reduce_sum %p [0] : tensor<2xf32> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}

// -----

// Slices that do not tile @w are padded, and added up as they come; the sum is cast.
// CHECK-LABEL: module @overlapping
// CHECK: train.backward
// CHECK: %[[E:.*]] = train.slice_grad
// CHECK: %[[D:.*]] = train.slice_grad
// CHECK-NEXT: %[[ED:.*]] = train.add %[[E]], %[[D]]
// CHECK: %[[C:.*]] = train.slice_grad
// CHECK-NEXT: %[[EDC:.*]] = train.add %[[ED]], %[[C]]
// CHECK: %[[B:.*]] = train.slice_grad
// CHECK-NEXT: %[[EDCB:.*]] = train.add %[[EDC]], %[[B]]
// CHECK: %[[A:.*]] = train.slice_grad
// CHECK-NEXT: %[[EDCBA:.*]] = train.add %[[EDCB]], %[[A]]
// CHECK-NEXT: train.accumulate @w, %[[EDCBA]]
// WIDE-LABEL: module @overlapping
// WIDE: %[[SUM64:.*]] = train.cast
// WIDE-NEXT: train.accumulate @w, %[[SUM64]]
module @overlapping {
  train.state @w : tensor<6xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%seed: tensor<f32>) {
    %w = train.read_state @w : tensor<6xf32>
    %a = train.slice %w [1] [1] : tensor<6xf32> -> tensor<2xf32>
    %b = train.slice %w [2] [1] : tensor<6xf32> -> tensor<2xf32>
    %c = train.slice %w [3] [1] : tensor<6xf32> -> tensor<2xf32>
    %d = train.slice %w [4] [1] : tensor<6xf32> -> tensor<2xf32>
    %e = train.slice %w [0] [1] : tensor<6xf32> -> tensor<1xf32>
    %0 = train.mul %a, %b : tensor<2xf32>, tensor<2xf32> -> tensor<2xf32>
    %1 = train.mul %0, %c : tensor<2xf32>, tensor<2xf32> -> tensor<2xf32>
    %2 = train.mul %1, %d : tensor<2xf32>, tensor<2xf32> -> tensor<2xf32>
    %3 = train.mul %2, %e : tensor<2xf32>, tensor<1xf32> -> tensor<2xf32>
    %loss = train.reduce_sum %3 [0] : tensor<2xf32> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}
