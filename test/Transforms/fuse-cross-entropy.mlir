// RUN: zopt %s --pass-pipeline='builtin.module(func.func(zopt-fuse-cross-entropy))' | FileCheck %s

// The factor is computed before the loss; what only it needs moves there.
// CHECK-LABEL: func.func @fused
// CHECK: %[[N:.*]] = train.neg %arg2
// CHECK: %[[S:.*]] = train.mul %[[N]], %arg2
// CHECK: %[[D:.*]], %[[LOSS:.*]], %[[COUNT:.*]] = train.cross_entropy_step %arg0, %arg1, %[[S]] {ignore_index = -1 : i64, label_smoothing = 1.000000e-01 : f64} : tensor<4x8xbf16>, tensor<4xi64>, tensor<f32> -> tensor<f32>
// CHECK-NOT: train.cross_entropy
// CHECK: %[[T:.*]] = train.add %[[LOSS]], %[[COUNT]]
// CHECK: return %[[T]], %[[D]]
func.func @fused(%x: tensor<4x8xbf16>, %y: tensor<4xi64>, %c: tensor<f32>) -> (tensor<f32>, tensor<4x8xbf16>) {
  %loss, %count, %lse = train.cross_entropy %x, %y {ignore_index = -1 : i64, label_smoothing = 0.1 : f64} : tensor<4x8xbf16>, tensor<4xi64> -> tensor<f32>, tensor<4xf32>
  %total = train.add %loss, %count : tensor<f32>, tensor<f32> -> tensor<f32>
  %n = train.neg %c : tensor<f32>
  %s = train.mul %n, %c : tensor<f32>, tensor<f32> -> tensor<f32>
  %d = train.cross_entropy_grad %x, %y, %lse, %s {ignore_index = -1 : i64, label_smoothing = 0.1 : f64} : tensor<4x8xbf16>, tensor<4xi64>, tensor<4xf32>, tensor<f32> -> tensor<4x8xbf16>
  return %total, %d : tensor<f32>, tensor<4x8xbf16>
}

// CHECK-LABEL: func.func @fp32
// CHECK: train.cross_entropy_step %arg0, %arg1, %arg2 : tensor<4x8xf32>, tensor<4xi64>, tensor<f32> -> tensor<f32>
func.func @fp32(%x: tensor<4x8xf32>, %y: tensor<4xi64>, %s: tensor<f32>) -> (tensor<f32>, tensor<4x8xf32>) {
  %loss, %count, %lse = train.cross_entropy %x, %y : tensor<4x8xf32>, tensor<4xi64> -> tensor<f32>, tensor<4xf32>
  %d = train.cross_entropy_grad %x, %y, %lse, %s : tensor<4x8xf32>, tensor<4xi64>, tensor<4xf32>, tensor<f32> -> tensor<4x8xf32>
  return %loss, %d : tensor<f32>, tensor<4x8xf32>
}

// A mean over the labels that count: the factor needs the count, which the same op makes.
// CHECK-LABEL: func.func @factor_needs_the_count
// CHECK: train.cross_entropy %
// CHECK: train.cross_entropy_grad %
func.func @factor_needs_the_count(%x: tensor<4x8xbf16>, %y: tensor<4xi64>, %one: tensor<f32>) -> (tensor<f32>, tensor<4x8xbf16>) {
  %loss, %count, %lse = train.cross_entropy %x, %y : tensor<4x8xbf16>, tensor<4xi64> -> tensor<f32>, tensor<4xf32>
  %s = train.div %one, %count : tensor<f32>, tensor<f32> -> tensor<f32>
  %d = train.cross_entropy_grad %x, %y, %lse, %s : tensor<4x8xbf16>, tensor<4xi64>, tensor<4xf32>, tensor<f32> -> tensor<4x8xbf16>
  return %loss, %d : tensor<f32>, tensor<4x8xbf16>
}

// CHECK-LABEL: func.func @factor_is_the_loss
// CHECK: train.cross_entropy %
// CHECK: train.cross_entropy_grad %
func.func @factor_is_the_loss(%x: tensor<4x8xbf16>, %y: tensor<4xi64>) -> tensor<4x8xbf16> {
  %loss, %count, %lse = train.cross_entropy %x, %y : tensor<4x8xbf16>, tensor<4xi64> -> tensor<f32>, tensor<4xf32>
  %d = train.cross_entropy_grad %x, %y, %lse, %loss : tensor<4x8xbf16>, tensor<4xi64>, tensor<4xf32>, tensor<f32> -> tensor<4x8xbf16>
  return %d : tensor<4x8xbf16>
}

// CHECK-LABEL: func.func @second_reader
// CHECK: train.cross_entropy %
// CHECK: train.cross_entropy_grad %
func.func @second_reader(%x: tensor<4x8xbf16>, %y: tensor<4xi64>, %s: tensor<f32>) -> (tensor<4xf32>, tensor<4x8xbf16>) {
  %loss, %count, %lse = train.cross_entropy %x, %y : tensor<4x8xbf16>, tensor<4xi64> -> tensor<f32>, tensor<4xf32>
  %d = train.cross_entropy_grad %x, %y, %lse, %s : tensor<4x8xbf16>, tensor<4xi64>, tensor<4xf32>, tensor<f32> -> tensor<4x8xbf16>
  return %lse, %d : tensor<4xf32>, tensor<4x8xbf16>
}

// Other labels, other logits or another smoothing: no gradient of this loss.
// CHECK-LABEL: func.func @other_attributes
// CHECK-NOT: train.cross_entropy_step
// CHECK: return
func.func @other_attributes(%x: tensor<4x8xbf16>, %y: tensor<4xi64>, %z: tensor<4xi64>, %s: tensor<f32>) -> (tensor<4x8xbf16>, tensor<4x8xbf16>) {
  %loss, %count, %lse = train.cross_entropy %x, %y : tensor<4x8xbf16>, tensor<4xi64> -> tensor<f32>, tensor<4xf32>
  %d = train.cross_entropy_grad %x, %y, %lse, %s {label_smoothing = 0.1 : f64} : tensor<4x8xbf16>, tensor<4xi64>, tensor<4xf32>, tensor<f32> -> tensor<4x8xbf16>
  %loss1, %count1, %lse1 = train.cross_entropy %x, %y : tensor<4x8xbf16>, tensor<4xi64> -> tensor<f32>, tensor<4xf32>
  %e = train.cross_entropy_grad %x, %z, %lse1, %s : tensor<4x8xbf16>, tensor<4xi64>, tensor<4xf32>, tensor<f32> -> tensor<4x8xbf16>
  return %d, %e : tensor<4x8xbf16>, tensor<4x8xbf16>
}
