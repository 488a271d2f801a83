// RUN: zopt %s --pass-pipeline='builtin.module(func.func(zopt-raise-stochastic-depth))' | FileCheck %s

// [u < p] / p, as PyTorch's bernoulli_ and torchvision's and timm's layers export.
// CHECK-LABEL: func.func @compared
func.func @compared(%x: tensor<4x3x8xf32>) -> tensor<4x3x8xf32> {
  %like = train.constant dense<0.0> : tensor<4x1x1xf32> : tensor<4x1x1xf32>
  %p = train.constant dense<8.0e-01> : tensor<f32> : tensor<f32>
  %u = train.uniform %like {id = 5 : i64} : tensor<4x1x1xf32> -> tensor<4x1x1xf32>
  %kept = train.compare lt %u, %p : tensor<4x1x1xf32>, tensor<f32> -> tensor<4x1x1xi1>
  %float = train.cast %kept : tensor<4x1x1xi1> -> tensor<4x1x1xf32>
  %scaled = train.div %float, %p : tensor<4x1x1xf32>, tensor<f32> -> tensor<4x1x1xf32>
  // CHECK: %[[ONE:.*]] = train.constant dense<1.000000e+00> : tensor<f32>
  // CHECK: %[[ONES:.*]] = train.broadcast %[[ONE]] : tensor<f32> -> tensor<4x1x1xf32>
  // CHECK: %[[DROPOUT:.*]] = train.dropout %[[ONES]] {id = 5 : i64, ratio = 0.199{{[0-9]*}} : f64} : tensor<4x1x1xf32>
  // CHECK-NOT: train.uniform
  // CHECK: train.mul %{{.*}}, %[[DROPOUT]]
  %y = train.mul %x, %scaled : tensor<4x3x8xf32>, tensor<4x1x1xf32> -> tensor<4x3x8xf32>
  return %y : tensor<4x3x8xf32>
}

// floor(u + p) beside a branch that is divided by p, as transformers' drop_path has it.
// CHECK-LABEL: func.func @floored
func.func @floored(%x: tensor<4x3x8xf32>) -> tensor<4x3x8xf32> {
  %like = train.constant dense<0.0> : tensor<4x1x1xf32> : tensor<4x1x1xf32>
  %p = train.constant dense<9.0e-01> : tensor<f32> : tensor<f32>
  %u = train.uniform %like {id = 6 : i64} : tensor<4x1x1xf32> -> tensor<4x1x1xf32>
  %sum = train.add %p, %u : tensor<f32>, tensor<4x1x1xf32> -> tensor<4x1x1xf32>
  %kept = train.floor %sum : tensor<4x1x1xf32>
  %scaled = train.div %x, %p : tensor<4x3x8xf32>, tensor<f32> -> tensor<4x3x8xf32>
  // CHECK: %[[DROPOUT:.*]] = train.dropout %{{.*}} {id = 6 : i64, ratio = 0.100{{[0-9]*}} : f64} : tensor<4x1x1xf32>
  // CHECK: train.mul %arg0, %[[DROPOUT]]
  // CHECK-NEXT: return
  %y = train.mul %scaled, %kept : tensor<4x3x8xf32>, tensor<4x1x1xf32> -> tensor<4x3x8xf32>
  return %y : tensor<4x3x8xf32>
}

// What is not divided by the probability is no dropout.
// CHECK-LABEL: func.func @chosen
func.func @chosen(%x: tensor<4x3x8xf32>) -> tensor<4x3x8xf32> {
  %like = train.constant dense<0.0> : tensor<4x1x1xf32> : tensor<4x1x1xf32>
  %p = train.constant dense<1.5e-01> : tensor<f32> : tensor<f32>
  // CHECK: train.uniform
  // CHECK-NOT: train.dropout
  %u = train.uniform %like {id = 7 : i64} : tensor<4x1x1xf32> -> tensor<4x1x1xf32>
  %kept = train.compare lt %u, %p : tensor<4x1x1xf32>, tensor<f32> -> tensor<4x1x1xi1>
  %float = train.cast %kept : tensor<4x1x1xi1> -> tensor<4x1x1xf32>
  %y = train.mul %x, %float : tensor<4x3x8xf32>, tensor<4x1x1xf32> -> tensor<4x3x8xf32>
  return %y : tensor<4x3x8xf32>
}
