// RUN: zopt %s --canonicalize | FileCheck %s

// CHECK-LABEL: func.func @casts
// CHECK-SAME: (%[[X:.*]]: tensor<3xbf16>, %[[Y:.*]]: tensor<3xf32>)
func.func @casts(%x: tensor<3xbf16>, %y: tensor<3xf32>) -> (tensor<3xbf16>, tensor<3xf32>, tensor<3xf32>) {
  // Widening and back is the identity.
  %0 = train.cast %x : tensor<3xbf16> -> tensor<3xf32>
  %1 = train.cast %0 : tensor<3xf32> -> tensor<3xbf16>
  // Narrowing and back rounds: it stays.
  // CHECK: %[[NARROW:.*]] = train.cast %[[Y]] : tensor<3xf32> -> tensor<3xbf16>
  // CHECK: %[[BACK:.*]] = train.cast %[[NARROW]] : tensor<3xbf16> -> tensor<3xf32>
  %2 = train.cast %y : tensor<3xf32> -> tensor<3xbf16>
  %3 = train.cast %2 : tensor<3xbf16> -> tensor<3xf32>
  %4 = train.cast %y : tensor<3xf32> -> tensor<3xf32>
  // CHECK: return %[[X]], %[[BACK]], %[[Y]]
  return %1, %3, %4 : tensor<3xbf16>, tensor<3xf32>, tensor<3xf32>
}

// CHECK-LABEL: func.func @movement
// CHECK-SAME: (%[[X:.*]]: tensor<2x3xf32>)
func.func @movement(%x: tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<3x2xf32>, tensor<2x3xf32>, tensor<1x6xf32>) {
  %0 = train.reshape %x : tensor<2x3xf32> -> tensor<6xf32>
  %1 = train.reshape %0 : tensor<6xf32> -> tensor<2x3xf32>
  // CHECK: %[[T:.*]] = train.transpose %[[X]] [1, 0] : tensor<2x3xf32> -> tensor<3x2xf32>
  %2 = train.transpose %x [1, 0] : tensor<2x3xf32> -> tensor<3x2xf32>
  %3 = train.transpose %2 [1, 0] : tensor<3x2xf32> -> tensor<2x3xf32>
  // CHECK: %[[R:.*]] = train.reshape %[[X]] : tensor<2x3xf32> -> tensor<1x6xf32>
  %4 = train.reshape %0 : tensor<6xf32> -> tensor<1x6xf32>
  // CHECK: return %[[X]], %[[T]], %[[X]], %[[R]]
  return %1, %2, %3, %4 : tensor<2x3xf32>, tensor<3x2xf32>, tensor<2x3xf32>, tensor<1x6xf32>
}

// CHECK-LABEL: func.func @broadcasts
// CHECK-SAME: (%[[X:.*]]: tensor<2x3xf32>, %[[S:.*]]: tensor<f32>)
func.func @broadcasts(%x: tensor<2x3xf32>, %s: tensor<f32>) -> (tensor<2x3xf32>, tensor<2x3xf32>) {
  // CHECK: %[[B:.*]] = train.broadcast %[[S]] : tensor<f32> -> tensor<2x3xf32>
  %0 = train.broadcast %s : tensor<f32> -> tensor<2x3xf32>
  // CHECK: %[[Y:.*]] = train.mul %[[X]], %[[S]] : tensor<2x3xf32>, tensor<f32> -> tensor<2x3xf32>
  %1 = train.mul %x, %0 : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
  // Both operands broadcast: one has to give the result its shape.
  // CHECK: %[[Z:.*]] = train.add %[[S]], %[[B]] : tensor<f32>, tensor<2x3xf32> -> tensor<2x3xf32>
  %2 = train.add %0, %0 : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
  // CHECK: return %[[Y]], %[[Z]]
  return %1, %2 : tensor<2x3xf32>, tensor<2x3xf32>
}

// x * 1 and x / 1 are x, whatever x is; x + 0 is not, where x is -0.
// CHECK-LABEL: func.func @neutral
// CHECK-SAME: (%[[X:.*]]: tensor<2x3xf32>)
func.func @neutral(%x: tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>) {
  %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %0 = train.mul %one, %x : tensor<f32>, tensor<2x3xf32> -> tensor<2x3xf32>
  %1 = train.div %x, %one : tensor<2x3xf32>, tensor<f32> -> tensor<2x3xf32>
  // CHECK: %[[SUM:.*]] = train.add %[[X]]
  %2 = train.add %x, %zero : tensor<2x3xf32>, tensor<f32> -> tensor<2x3xf32>
  // CHECK: return %[[X]], %[[X]], %[[SUM]]
  return %0, %1, %2 : tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>
}
