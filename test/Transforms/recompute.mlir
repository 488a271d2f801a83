// RUN: zopt %s --zopt-recompute=policy=selective --cse --split-input-file 2>%t.remarks | FileCheck %s --check-prefixes=CHECK,SELECTIVE
// RUN: FileCheck %s --check-prefix=REMARK < %t.remarks
// RUN: zopt %s --zopt-recompute=policy=full --cse --split-input-file 2>/dev/null | FileCheck %s --check-prefixes=CHECK,FULL
// RUN: zopt %s --zopt-recompute --split-input-file | FileCheck %s --check-prefix=NONE

// An elementwise op runs again where it is first read, once for all readers, and CSE leaves it; its operand, a product, is kept.
// REMARK: remark: recompute=selective: 1 ops run again in backward (0 flops in products); bytes kept for backward 1024 -> 512
// NONE-NOT: train.recomputed
// CHECK-LABEL: module @elementwise
module @elementwise attributes {train.level = "step"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  func.func @micro_step(%x: tensor<8x16xf32>) {
    %seed = train.constant dense<1.0> : tensor<f32> : tensor<f32>
    %w = train.read_state @w : tensor<16x16xf32>
    // SELECTIVE: %[[P:.*]] = train.matmul
    %p = train.matmul %x, %w : tensor<8x16xf32>, tensor<16x16xf32> -> tensor<8x16xf32>
    // SELECTIVE: %[[E:.*]] = train.exp %[[P]] : tensor
    %e = train.exp %p : tensor<8x16xf32>
    // SELECTIVE: train.reduce_sum %[[E]]
    %loss = train.reduce_sum %e [0, 1] : tensor<8x16xf32> -> tensor<f32>
    // SELECTIVE: train.backward
    train.backward %loss seed %seed : tensor<f32>
    // SELECTIVE-NEXT: train.mul %[[P]], %[[P]]
    %q = train.mul %p, %p : tensor<8x16xf32>, tensor<8x16xf32> -> tensor<8x16xf32>
    // SELECTIVE-NEXT: %[[AGAIN:.*]] = train.exp %[[P]] {train.recomputed}
    // SELECTIVE-NEXT: train.mul %{{.*}}, %[[AGAIN]]
    %g = train.mul %q, %e : tensor<8x16xf32>, tensor<8x16xf32> -> tensor<8x16xf32>
    // SELECTIVE-NEXT: train.add %{{.*}}, %[[AGAIN]]
    %h = train.add %g, %e : tensor<8x16xf32>, tensor<8x16xf32> -> tensor<8x16xf32>
    %dw = train.matmul %x, %h {transpose_lhs} : tensor<8x16xf32>, tensor<8x16xf32> -> tensor<16x16xf32>
    train.accumulate @w, %dw : tensor<16x16xf32>
    return
  }
}

// -----

// What backward reads of a norm: its input and statistics are kept, 8 times smaller or more; its result is not, for the same op gives it again.
// REMARK: remark: recompute=selective: 1 ops run again in backward (0 flops in products); bytes kept for backward 1056 -> 544
// CHECK-LABEL: module @norm
module @norm attributes {train.level = "step"} {
  train.state @g : tensor<16xf32> {role = #train.role<parameter>, trained, init = 1.0 : f32}
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @r : tensor<8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  func.func @micro_step(%x: tensor<8x16xf32>) {
    %seed = train.constant dense<1.0> : tensor<f32> : tensor<f32>
    %g = train.read_state @g : tensor<16xf32>
    %w = train.read_state @w : tensor<16x16xf32>
    // SELECTIVE: %[[P:.*]] = train.matmul
    %p = train.matmul %x, %w : tensor<8x16xf32>, tensor<16x16xf32> -> tensor<8x16xf32>
    // SELECTIVE: %{{.*}}, %[[RSTD:.*]] = train.rms_norm %[[P]]
    %y, %rstd = train.rms_norm %p gamma %g : tensor<16xf32> {epsilon = 1.0e-5 : f64} : tensor<8x16xf32> -> tensor<8x16xf32>, tensor<8xf32>
    %loss = train.reduce_sum %y [0, 1] : tensor<8x16xf32> -> tensor<f32>
    // SELECTIVE: train.backward
    train.backward %loss seed %seed : tensor<f32>
    // SELECTIVE-NEXT: %[[AGAIN:[a-z0-9_]+]], %{{.*}} = train.rms_norm %[[P]] {{.*}}train.recomputed
    // SELECTIVE-NEXT: train.matmul %{{.*}}, %[[AGAIN]]
    %dw = train.matmul %x, %y {transpose_lhs} : tensor<8x16xf32>, tensor<8x16xf32> -> tensor<16x16xf32>
    train.accumulate @w, %dw : tensor<16x16xf32>
    // SELECTIVE: train.neg %[[RSTD]]
    %r = train.neg %rstd : tensor<8xf32>
    train.accumulate @r, %r : tensor<8xf32>
    %q = train.mul %p, %p : tensor<8x16xf32>, tensor<8x16xf32> -> tensor<8x16xf32>
    %dg = train.reduce_sum %q [0] : tensor<8x16xf32> -> tensor<16xf32>
    train.accumulate @g, %dg : tensor<16xf32>
    return
  }
}

// -----

// With `full` products run again too, in segments: what crosses a segment's end is kept, and so is the last segment, with which backward begins.
// CHECK-LABEL: module @segments
module @segments attributes {train.level = "step"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  // FULL: func.func @micro_step(%[[X:.*]]: tensor<8x16xf32>)
  func.func @micro_step(%x: tensor<8x16xf32>) {
    %seed = train.constant dense<1.0> : tensor<f32> : tensor<f32>
    // FULL: %[[W:.*]] = train.read_state
    %w = train.read_state @w : tensor<16x16xf32>
    %a = train.matmul %x, %w : tensor<8x16xf32>, tensor<16x16xf32> -> tensor<8x16xf32>
    %b = train.matmul %a, %w : tensor<8x16xf32>, tensor<16x16xf32> -> tensor<8x16xf32>
    %c = train.matmul %b, %w : tensor<8x16xf32>, tensor<16x16xf32> -> tensor<8x16xf32>
    %d = train.matmul %c, %w : tensor<8x16xf32>, tensor<16x16xf32> -> tensor<8x16xf32>
    %e = train.matmul %d, %w : tensor<8x16xf32>, tensor<16x16xf32> -> tensor<8x16xf32>
    %loss = train.reduce_sum %e [0, 1] : tensor<8x16xf32> -> tensor<f32>
    // FULL: train.backward
    // FULL: train.mul
    // FULL-NEXT: train.mul
    // FULL-NEXT: train.mul
    // FULL-NEXT: %[[A:.*]] = train.matmul %[[X]], %[[W]] {train.recomputed}
    // FULL-NEXT: %[[B:.*]] = train.matmul %[[A]], %[[W]] {train.recomputed}
    // FULL-NEXT: %[[T:.*]] = train.mul %{{.*}}, %[[B]]
    // FULL-NEXT: train.mul %[[T]], %[[A]]
    // SELECTIVE: train.backward
    // SELECTIVE-NOT: train.recomputed
    train.backward %loss seed %seed : tensor<f32>
    %0 = train.mul %e, %e : tensor<8x16xf32>, tensor<8x16xf32> -> tensor<8x16xf32>
    %1 = train.mul %0, %d : tensor<8x16xf32>, tensor<8x16xf32> -> tensor<8x16xf32>
    %2 = train.mul %1, %c : tensor<8x16xf32>, tensor<8x16xf32> -> tensor<8x16xf32>
    %3 = train.mul %2, %b : tensor<8x16xf32>, tensor<8x16xf32> -> tensor<8x16xf32>
    %4 = train.mul %3, %a : tensor<8x16xf32>, tensor<8x16xf32> -> tensor<8x16xf32>
    %dw = train.matmul %x, %4 {transpose_lhs} : tensor<8x16xf32>, tensor<8x16xf32> -> tensor<16x16xf32>
    train.accumulate @w, %dw : tensor<16x16xf32>
    return
  }
}
