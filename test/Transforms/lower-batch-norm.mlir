// RUN: zopt %s --pass-pipeline='builtin.module(func.func(zopt-lower-batch-norm,canonicalize))' | FileCheck %s

// Scale and shift of a channel, then a multiplication and an addition for each element. Backward has a slope and an offset for what goes through the statistics, and the mask of the rectifier from x: neither %y nor the masked
// cotangent is read.
// CHECK-LABEL: func.func @training
// CHECK: %[[MEAN:.*]], %[[VARIANCE:.*]] = train.batch_statistics %arg0
// CHECK: %[[SUM:.*]] = train.add %[[VARIANCE]], %{{.*}}
// CHECK: %[[ROOT:.*]] = train.sqrt %[[SUM]]
// CHECK: %[[INVERSE:.*]] = train.reciprocal %[[ROOT]] {zero.residual = "keep"}
// CHECK: %[[SCALE:.*]] = train.mul %[[INVERSE]], %{{.*}} {zero.residual = "keep"}
// CHECK: %[[MOVED:.*]] = train.mul %[[MEAN]], %[[SCALE]]
// CHECK: %[[SHIFT:.*]] = train.sub %{{.*}}, %[[MOVED]] {zero.residual = "keep"}
// CHECK: %[[WIDE:.*]] = train.cast %arg0 : tensor<6x4xbf16> -> tensor<6x4xf32>
// CHECK: %[[SCALED:.*]] = train.mul %[[WIDE]], %[[SCALE]]
// CHECK: %[[NORMAL:.*]] = train.add %[[SCALED]], %[[SHIFT]]
// CHECK: %[[ROUNDED:.*]] = train.cast %[[NORMAL]]
// CHECK: train.relu %[[ROUNDED]]
// CHECK: train.backward
// CHECK: %[[AGAIN:.*]] = train.cast %{{.*}} : tensor<6x4xf32> -> tensor<6x4xbf16>
// CHECK: %[[MASKED:.*]] = train.relu_grad %[[AGAIN]], %arg3
// CHECK: %[[DBETA:.*]], %[[DGAMMA:.*]] = train.batch_norm_sums %arg0 mean %[[MEAN]] variance %[[VARIANCE]] cotangent %arg3 relu %[[SCALE]], %[[SHIFT]] :
// CHECK: %[[SHARE:.*]] = train.div %[[SCALE]]
// CHECK: train.mul %[[DGAMMA]], %[[INVERSE]]
// CHECK-NOT: train.batch_norm
// CHECK-NOT: %[[MASKED]]{{.*}}batch
// CHECK: return
func.func @training(%x: tensor<6x4xbf16>, %gamma: tensor<4xbf16>, %beta: tensor<4xbf16>, %dy: tensor<6x4xbf16>, %loss: tensor<f32>) -> (tensor<6x4xbf16>, tensor<6x4xbf16>, tensor<4xf32>, tensor<4xf32>) {
  %mean, %variance = train.batch_statistics %x {zero.residual = "keep"} : tensor<6x4xbf16> -> tensor<4xf32>
  %0 = train.batch_norm %x mean %mean variance %variance gamma %gamma beta %beta {epsilon = 1.0e-5 : f64, training} : tensor<6x4xbf16>, tensor<4xf32>, tensor<4xbf16>
  %1 = train.relu %0 {zero.residual = "keep"} : tensor<6x4xbf16>
  train.backward %loss seed %loss : tensor<f32>
  %2 = train.relu_grad %1, %dy : tensor<6x4xbf16>
  %sum, %product = train.batch_norm_sums %x mean %mean variance %variance cotangent %2 {epsilon = 1.0e-5 : f64} : tensor<6x4xbf16>, tensor<4xf32> -> tensor<4xf32>
  %3 = train.batch_norm_grad %x mean %mean variance %variance gamma %gamma cotangent %2 sums(%sum, %product : tensor<4xf32>, tensor<4xf32>) {epsilon = 1.0e-5 : f64, count = 6.0 : f64} : tensor<6x4xbf16>, tensor<4xf32>, tensor<4xbf16>
  return %1, %3, %sum, %product : tensor<6x4xbf16>, tensor<6x4xbf16>, tensor<4xf32>, tensor<4xf32>
}

// A masked cotangent that something else reads stays.
// CHECK-LABEL: func.func @shared
// CHECK: %[[MASKED:.*]] = train.relu_grad
// CHECK: train.batch_norm_sums %arg0 mean %{{.*}} variance %{{.*}} cotangent %[[MASKED]] {
func.func @shared(%x: tensor<6x4xf32>, %mean: tensor<4xf32>, %variance: tensor<4xf32>, %gamma: tensor<4xf32>, %beta: tensor<4xf32>, %dy: tensor<6x4xf32>) -> (tensor<6x4xf32>, tensor<4xf32>, tensor<4xf32>) {
  %0 = train.batch_norm %x mean %mean variance %variance gamma %gamma beta %beta {epsilon = 1.0e-5 : f64} : tensor<6x4xf32>, tensor<4xf32>, tensor<4xf32>
  %1 = train.relu %0 : tensor<6x4xf32>
  %2 = train.relu_grad %1, %dy : tensor<6x4xf32>
  %sum, %product = train.batch_norm_sums %x mean %mean variance %variance cotangent %2 {epsilon = 1.0e-5 : f64} : tensor<6x4xf32>, tensor<4xf32> -> tensor<4xf32>
  return %2, %sum, %product : tensor<6x4xf32>, tensor<4xf32>, tensor<4xf32>
}

// Statistics that are constants: a multiplication. Without forward's op beside it, the vector is made here.
// CHECK-LABEL: func.func @constant
// CHECK: %[[INVERSE:.*]] = train.reciprocal
// CHECK: %[[SCALE:.*]] = train.mul %[[INVERSE]], %arg3
// CHECK: %[[DX:.*]] = train.mul %arg4, %[[SCALE]]
// CHECK: return %[[DX]]
func.func @constant(%x: tensor<6x4xf32>, %mean: tensor<4xf32>, %variance: tensor<4xf32>, %gamma: tensor<4xf32>, %dy: tensor<6x4xf32>) -> tensor<6x4xf32> {
  %0 = train.batch_norm_grad %x mean %mean variance %variance gamma %gamma cotangent %dy {epsilon = 1.0e-5 : f64, count = 1.0 : f64} : tensor<6x4xf32>, tensor<4xf32>, tensor<4xf32>
  return %0 : tensor<6x4xf32>
}
