// RUN: zopt %s --pass-pipeline='builtin.module(func.func(zopt-fuse-norm-residuals))' | FileCheck %s

// The gradient that goes past the norm is added where the other one is made, on whichever side of the sum it is.
// CHECK-LABEL: func.func @layer_norm
// CHECK: %[[D:.*]] = train.layer_norm_grad %arg0 gamma %arg1 : tensor<8xbf16> mean %arg2 rstd %arg2 cotangent %arg3 addend %arg4 : tensor<4x8xbf16>
// CHECK-NOT: train.add
// CHECK: return %[[D]]
func.func @layer_norm(%x: tensor<4x8xbf16>, %g: tensor<8xbf16>, %s: tensor<4xf32>, %dy: tensor<4x8xbf16>, %r: tensor<4x8xbf16>) -> tensor<4x8xbf16> {
  %d = train.layer_norm_grad %x gamma %g : tensor<8xbf16> mean %s rstd %s cotangent %dy : tensor<4x8xbf16>, tensor<4xf32>, tensor<4x8xbf16>
  %y = train.add %r, %d : tensor<4x8xbf16>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  return %y : tensor<4x8xbf16>
}

// CHECK-LABEL: func.func @rms_norm
// CHECK: %[[D:.*]] = train.rms_norm_grad %arg0 rstd %arg1 cotangent %arg2 addend %arg3 : tensor<4x8xbf16>
// CHECK-NOT: train.add
// CHECK: return %[[D]]
func.func @rms_norm(%x: tensor<4x8xbf16>, %s: tensor<4xf32>, %dy: tensor<4x8xbf16>, %r: tensor<4x8xbf16>) -> tensor<4x8xbf16> {
  %d = train.rms_norm_grad %x rstd %s cotangent %dy : tensor<4x8xbf16>, tensor<4xf32>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  %y = train.add %d, %r : tensor<4x8xbf16>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  return %y : tensor<4x8xbf16>
}

// The other value may be made after the norm's gradient, which then moves behind it.
// CHECK-LABEL: func.func @made_later
// CHECK: %[[N:.*]] = train.neg %arg3
// CHECK-NEXT: %[[D:.*]] = train.rms_norm_grad {{.*}} addend %[[N]] : tensor<4x8xbf16>
// CHECK-NEXT: return %[[D]]
func.func @made_later(%x: tensor<4x8xbf16>, %s: tensor<4xf32>, %dy: tensor<4x8xbf16>, %r: tensor<4x8xbf16>) -> tensor<4x8xbf16> {
  %d = train.rms_norm_grad %x rstd %s cotangent %dy : tensor<4x8xbf16>, tensor<4xf32>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  %n = train.neg %r : tensor<4x8xbf16>
  %y = train.add %d, %n : tensor<4x8xbf16>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  return %y : tensor<4x8xbf16>
}

// A gradient takes one value in: what is added after that stays a sum.
// CHECK-LABEL: func.func @once
// CHECK: %[[D:.*]] = train.rms_norm_grad {{.*}} addend %arg3 : tensor<4x8xbf16>
// CHECK-NEXT: train.add %[[D]], %arg2
func.func @once(%x: tensor<4x8xbf16>, %s: tensor<4xf32>, %dy: tensor<4x8xbf16>, %r: tensor<4x8xbf16>) -> tensor<4x8xbf16> {
  %d = train.rms_norm_grad %x rstd %s cotangent %dy : tensor<4x8xbf16>, tensor<4xf32>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  %y = train.add %d, %r : tensor<4x8xbf16>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  %z = train.add %y, %dy : tensor<4x8xbf16>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  return %z : tensor<4x8xbf16>
}

// Not in fp32, not a gradient with a second reader, not one added to itself, not a vector that broadcasts.
// CHECK-LABEL: func.func @not_fused
// CHECK-NOT: addend
// CHECK: return
func.func @not_fused(%x: tensor<4x8xf32>, %s: tensor<4xf32>, %r: tensor<4x8xf32>, %h: tensor<4x8xbf16>, %v: tensor<8xbf16>)
    -> (tensor<4x8xf32>, tensor<4x8xbf16>, tensor<4x8xbf16>, tensor<4x8xbf16>, tensor<4x8xbf16>) {
  %a = train.rms_norm_grad %x rstd %s cotangent %x : tensor<4x8xf32>, tensor<4xf32>, tensor<4x8xf32> -> tensor<4x8xf32>
  %b = train.add %a, %r : tensor<4x8xf32>, tensor<4x8xf32> -> tensor<4x8xf32>
  %c = train.rms_norm_grad %h rstd %s cotangent %h : tensor<4x8xbf16>, tensor<4xf32>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  %d = train.add %c, %h : tensor<4x8xbf16>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  %e = train.layer_norm_grad %h mean %s rstd %s cotangent %h : tensor<4x8xbf16>, tensor<4xf32>, tensor<4x8xbf16>
  %f = train.add %e, %e : tensor<4x8xbf16>, tensor<4x8xbf16> -> tensor<4x8xbf16>
  %g = train.layer_norm_grad %h mean %s rstd %s cotangent %d : tensor<4x8xbf16>, tensor<4xf32>, tensor<4x8xbf16>
  %i = train.add %g, %v : tensor<4x8xbf16>, tensor<8xbf16> -> tensor<4x8xbf16>
  return %b, %c, %d, %f, %i : tensor<4x8xf32>, tensor<4x8xbf16>, tensor<4x8xbf16>, tensor<4x8xbf16>, tensor<4x8xbf16>
}
