// RUN: zopt %s --pass-pipeline='builtin.module(func.func(zopt-fuse-matmul-epilogues))' | FileCheck %s
// RUN: zopt %s --pass-pipeline='builtin.module(func.func(zopt-fuse-matmul-epilogues{bias-gradients=false}))' | FileCheck %s --check-prefix=NOSUM

// GELU in the tanh form and its argument are two results of one op.
// CHECK-LABEL: func.func @gelu
// CHECK: %[[Y:.*]], %[[P:.*]] = train.fused_matmul %arg0, %arg1 bias %arg2 {epilogue = 1 : i32
// CHECK-NEXT: return %[[P]], %[[Y]]
func.func @gelu(%x: tensor<2x8x16xbf16>, %w: tensor<16x32xbf16>, %b: tensor<32xbf16>) -> (tensor<2x8x32xbf16>, tensor<2x8x32xbf16>) {
  %p = train.matmul %x, %w bias %b : tensor<32xbf16> : tensor<2x8x16xbf16>, tensor<16x32xbf16> -> tensor<2x8x32xbf16>
  %y = train.gelu %p {approximate = 1 : i32} : tensor<2x8x32xbf16>
  return %p, %y : tensor<2x8x32xbf16>, tensor<2x8x32xbf16>
}

// The form with erf is no epilogue, nor is anything in fp32.
// CHECK-LABEL: func.func @not_fused
// CHECK-NOT: train.fused_matmul
// CHECK: return
func.func @not_fused(%x: tensor<8x16xbf16>, %w: tensor<16x32xbf16>, %xf: tensor<8x16xf32>, %wf: tensor<16x32xf32>) -> (tensor<8x32xbf16>, tensor<8x32xf32>) {
  %p = train.matmul %x, %w : tensor<8x16xbf16>, tensor<16x32xbf16> -> tensor<8x32xbf16>
  %y = train.gelu %p {approximate = 0 : i32} : tensor<8x32xbf16>
  %q = train.matmul %xf, %wf : tensor<8x16xf32>, tensor<16x32xf32> -> tensor<8x32xf32>
  %z = train.gelu %q {approximate = 1 : i32} : tensor<8x32xf32>
  return %y, %z : tensor<8x32xbf16>, tensor<8x32xf32>
}

// The gradient of GELU takes the product in, and the bias's gradient with it.
// CHECK-LABEL: func.func @gelu_grad
// CHECK: %[[D:.*]], %[[S:.*]] = train.fused_matmul %arg0, %arg1 aux %arg2 {bias_gradient_kind = 3 : i32, epilogue = 2 : i32{{.*}}transpose_rhs}
// CHECK-NEXT: return %[[D]], %[[S]]
// NOSUM-LABEL: func.func @gelu_grad
// NOSUM: %[[D:.*]] = train.fused_matmul %arg0, %arg1 aux %arg2
// NOSUM-NEXT: train.reduce_sum %[[D]]
func.func @gelu_grad(%dy: tensor<2x8x16xbf16>, %w: tensor<32x16xbf16>, %p: tensor<2x8x32xbf16>) -> (tensor<2x8x32xbf16>, tensor<32xbf16>) {
  %m = train.matmul %dy, %w {transpose_rhs} : tensor<2x8x16xbf16>, tensor<32x16xbf16> -> tensor<2x8x32xbf16>
  %d = train.gelu_grad %p, %m {approximate = 1 : i32} : tensor<2x8x32xbf16>
  %s = train.reduce_sum %d [0, 1] : tensor<2x8x32xbf16> -> tensor<32xbf16>
  return %d, %s : tensor<2x8x32xbf16>, tensor<32xbf16>
}

// A product that something else reads stays.
// CHECK-LABEL: func.func @shared_product
// CHECK: train.matmul
// CHECK: train.gelu_grad
func.func @shared_product(%dy: tensor<8x16xbf16>, %w: tensor<32x16xbf16>, %p: tensor<8x32xbf16>) -> (tensor<8x32xbf16>, tensor<8x32xbf16>) {
  %m = train.matmul %dy, %w {transpose_rhs} : tensor<8x16xbf16>, tensor<32x16xbf16> -> tensor<8x32xbf16>
  %d = train.gelu_grad %p, %m {approximate = 1 : i32} : tensor<8x32xbf16>
  return %d, %m : tensor<8x32xbf16>, tensor<8x32xbf16>
}

// The sum of a cotangent joins the weight's gradient, whichever side the cotangent is on.
// CHECK-LABEL: func.func @bias_gradient
// CHECK: train.fused_matmul %{{.*}}, %{{.*}} {bias_gradient_kind = 2 : i32{{.*}}transpose_lhs}
// CHECK: train.fused_matmul %{{.*}}, %{{.*}} {bias_gradient_kind = 1 : i32{{.*}}transpose_lhs}
// CHECK-NOT: train.reduce_sum
func.func @bias_gradient(%x: tensor<16x4xbf16>, %dy: tensor<2x8x32xbf16>) -> (tensor<4x32xbf16>, tensor<32xbf16>, tensor<32x4xbf16>, tensor<32xbf16>) {
  %r = train.reshape %dy : tensor<2x8x32xbf16> -> tensor<16x32xbf16>
  %dw = train.matmul %x, %r {transpose_lhs} : tensor<16x4xbf16>, tensor<16x32xbf16> -> tensor<4x32xbf16>
  %s = train.reduce_sum %dy [0, 1] : tensor<2x8x32xbf16> -> tensor<32xbf16>
  %y = train.neg %dy : tensor<2x8x32xbf16>
  %q = train.reshape %y : tensor<2x8x32xbf16> -> tensor<16x32xbf16>
  %dv = train.matmul %q, %x {transpose_lhs} : tensor<16x32xbf16>, tensor<16x4xbf16> -> tensor<32x4xbf16>
  %t = train.reduce_sum %y [0, 1] : tensor<2x8x32xbf16> -> tensor<32xbf16>
  return %dw, %s, %dv, %t : tensor<4x32xbf16>, tensor<32xbf16>, tensor<32x4xbf16>, tensor<32xbf16>
}

// A residual is added inside the product, bias and all.
// CHECK-LABEL: func.func @residual
// CHECK: %[[X:.*]] = train.neg %arg3
// CHECK: %[[Y:.*]] = train.fused_matmul %arg0, %arg1 bias %arg2 addend %[[X]] {
// CHECK-NEXT: return %[[Y]]
func.func @residual(%x: tensor<8x16xbf16>, %w: tensor<16x32xbf16>, %b: tensor<32xbf16>, %r: tensor<8x32xbf16>) -> tensor<8x32xbf16> {
  %n = train.neg %r : tensor<8x32xbf16>
  %p = train.matmul %x, %w bias %b : tensor<32xbf16> : tensor<8x16xbf16>, tensor<16x32xbf16> -> tensor<8x32xbf16>
  %y = train.add %n, %p : tensor<8x32xbf16>, tensor<8x32xbf16> -> tensor<8x32xbf16>
  return %y : tensor<8x32xbf16>
}

// Of two products the later one takes the other in, whichever side each is on.
// CHECK-LABEL: func.func @two_products
// CHECK: %[[A:.*]] = train.matmul %arg0, %arg1
// CHECK: %[[B:.*]] = train.fused_matmul %arg2, %arg1 addend %[[A]]
// CHECK: %[[C:.*]] = train.matmul %arg2, %arg1
// CHECK: %[[D:.*]] = train.fused_matmul %arg0, %arg1 addend %[[C]]
// CHECK: return %[[B]], %[[D]]
func.func @two_products(%x: tensor<8x16xbf16>, %w: tensor<16x32xbf16>, %z: tensor<8x16xbf16>) -> (tensor<8x32xbf16>, tensor<8x32xbf16>) {
  %a = train.matmul %x, %w : tensor<8x16xbf16>, tensor<16x32xbf16> -> tensor<8x32xbf16>
  %b = train.matmul %z, %w : tensor<8x16xbf16>, tensor<16x32xbf16> -> tensor<8x32xbf16>
  %s = train.add %a, %b : tensor<8x32xbf16>, tensor<8x32xbf16> -> tensor<8x32xbf16>
  %c = train.matmul %z, %w : tensor<8x16xbf16>, tensor<16x32xbf16> -> tensor<8x32xbf16>
  %d = train.matmul %x, %w : tensor<8x16xbf16>, tensor<16x32xbf16> -> tensor<8x32xbf16>
  %t = train.add %d, %c : tensor<8x32xbf16>, tensor<8x32xbf16> -> tensor<8x32xbf16>
  return %s, %t : tensor<8x32xbf16>, tensor<8x32xbf16>
}

// Not a product with a second reader, not one added to itself, not in fp32, not what broadcasts, not an argument.
// CHECK-LABEL: func.func @no_residual
// CHECK-NOT: train.fused_matmul
// CHECK: return
func.func @no_residual(%x: tensor<8x16xbf16>, %w: tensor<16x32xbf16>, %r: tensor<8x32xbf16>, %b: tensor<32xbf16>, %xf: tensor<8x16xf32>, %wf: tensor<16x32xf32>, %rf: tensor<8x32xf32>)
    -> (tensor<8x32xbf16>, tensor<8x32xbf16>, tensor<8x32xbf16>, tensor<8x32xf32>, tensor<8x32xbf16>, tensor<8x32xbf16>) {
  %n = train.neg %r : tensor<8x32xbf16>
  %p = train.matmul %x, %w : tensor<8x16xbf16>, tensor<16x32xbf16> -> tensor<8x32xbf16>
  %a = train.add %n, %p : tensor<8x32xbf16>, tensor<8x32xbf16> -> tensor<8x32xbf16>
  %q = train.matmul %x, %w : tensor<8x16xbf16>, tensor<16x32xbf16> -> tensor<8x32xbf16>
  %c = train.add %q, %q : tensor<8x32xbf16>, tensor<8x32xbf16> -> tensor<8x32xbf16>
  %nf = train.neg %rf : tensor<8x32xf32>
  %pf = train.matmul %xf, %wf : tensor<8x16xf32>, tensor<16x32xf32> -> tensor<8x32xf32>
  %d = train.add %nf, %pf : tensor<8x32xf32>, tensor<8x32xf32> -> tensor<8x32xf32>
  %v = train.neg %b : tensor<32xbf16>
  %o = train.matmul %x, %w : tensor<8x16xbf16>, tensor<16x32xbf16> -> tensor<8x32xbf16>
  %e = train.add %o, %v : tensor<8x32xbf16>, tensor<32xbf16> -> tensor<8x32xbf16>
  %m = train.matmul %x, %w : tensor<8x16xbf16>, tensor<16x32xbf16> -> tensor<8x32xbf16>
  %f = train.add %m, %r : tensor<8x32xbf16>, tensor<8x32xbf16> -> tensor<8x32xbf16>
  return %p, %a, %c, %d, %e, %f : tensor<8x32xbf16>, tensor<8x32xbf16>, tensor<8x32xbf16>, tensor<8x32xf32>, tensor<8x32xbf16>, tensor<8x32xbf16>
}

// A product does not wait for what is added to it where it would keep more than its result (%dy, as a tied table's
// gradient would), or a gathered weight; it does where it keeps less, and where %dy is read later anyway.
// CHECK-LABEL: func.func @waits
// CHECK: %[[A:.*]] = train.matmul
// CHECK: %[[R:.*]] = train.neg %arg2
// CHECK: train.add %[[A]], %[[R]]
// CHECK: %[[W:.*]] = zero.view
// CHECK-NEXT: %[[B:.*]] = train.matmul %arg3, %[[W]]
// CHECK: %[[S:.*]] = train.neg %arg2
// CHECK: train.add %[[B]], %[[S]]
// CHECK-NOT: train.matmul
// CHECK: %[[T:.*]] = train.neg %arg2
// CHECK-NEXT: train.fused_matmul %{{.*}}, %arg5 addend %[[T]]
// CHECK: %[[U:.*]] = train.neg %arg2
// CHECK: train.fused_matmul %{{.*}}, %arg1 addend %[[U]]
train.state @frozen : tensor<2x4xf32> {role = #train.role<parameter>, init = 0.0 : f32}
zero.group @data
zero.bucket @bucket on @data parameters sharded gradients sharded optimizer sharded compute bf16 gradient bf16 {frozen, segments = [#zero.segment<@frozen, 0, 8>]}
func.func @waits(%x: tensor<16x64xbf16>, %w: tensor<64x4xbf16>, %r: tensor<16x4xbf16>, %z: tensor<16x2xbf16>, %y: tensor<16x2xbf16>, %v: tensor<2x4xbf16>) -> (tensor<16x4xbf16>, tensor<16x4xbf16>, tensor<16x4xbf16>, tensor<16x4xbf16>, tensor<16x64xbf16>) {
  %dy = train.neg %x : tensor<16x64xbf16>
  %a = train.matmul %dy, %w : tensor<16x64xbf16>, tensor<64x4xbf16> -> tensor<16x4xbf16>
  %r0 = train.neg %r : tensor<16x4xbf16>
  %0 = train.add %a, %r0 : tensor<16x4xbf16>, tensor<16x4xbf16> -> tensor<16x4xbf16>
  %g = zero.all_gather @bucket : !zero.gathered
  %view = zero.view %g @frozen : tensor<2x4xbf16>
  %b = train.matmul %z, %view : tensor<16x2xbf16>, tensor<2x4xbf16> -> tensor<16x4xbf16>
  zero.free %g
  %r1 = train.neg %r : tensor<16x4xbf16>
  %1 = train.add %b, %r1 : tensor<16x4xbf16>, tensor<16x4xbf16> -> tensor<16x4xbf16>
  %dz = train.neg %y : tensor<16x2xbf16>
  %c = train.matmul %dz, %v : tensor<16x2xbf16>, tensor<2x4xbf16> -> tensor<16x4xbf16>
  %r2 = train.neg %r : tensor<16x4xbf16>
  %2 = train.add %c, %r2 : tensor<16x4xbf16>, tensor<16x4xbf16> -> tensor<16x4xbf16>
  %e = train.abs %x : tensor<16x64xbf16>
  %d = train.matmul %e, %w : tensor<16x64xbf16>, tensor<64x4xbf16> -> tensor<16x4xbf16>
  %r3 = train.neg %r : tensor<16x4xbf16>
  %3 = train.add %d, %r3 : tensor<16x4xbf16>, tensor<16x4xbf16> -> tensor<16x4xbf16>
  %4 = train.relu %e : tensor<16x64xbf16>
  return %0, %1, %2, %3, %4 : tensor<16x4xbf16>, tensor<16x4xbf16>, tensor<16x4xbf16>, tensor<16x4xbf16>, tensor<16x64xbf16>
}
