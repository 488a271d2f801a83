// RUN: zopt %s --zopt-raise-gelu | FileCheck %s

// transformers' gelu_new, by both exporters.
// CHECK-LABEL: func.func @gelu_new
// CHECK-SAME: (%[[X:.*]]: tensor<4x32xf32>)
// CHECK-NEXT: %[[Y:.*]] = train.gelu %[[X]] {approximate = 1 : i32}
// CHECK-NEXT: return %[[Y]]
func.func @gelu_new(%x: tensor<4x32xf32>) -> tensor<4x32xf32> {
  %half = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %three = train.constant dense<3.0> : tensor<f32> : tensor<f32>
  %c = train.constant dense<0.044715> : tensor<f32> : tensor<f32>
  %k = train.constant dense<0.797884583> : tensor<f32> : tensor<f32>
  %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
  %h = train.mul %x, %half : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %p = train.pow %x, %three : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %m = train.mul %p, %c : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %a = train.add %x, %m : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %t = train.mul %a, %k : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %u = train.tanh %t : tensor<4x32xf32>
  %v = train.add %u, %one : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %y = train.mul %h, %v : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  return %y : tensor<4x32xf32>
}

// FastGELU: x k (1 + c x x), the halving last.
// CHECK-LABEL: func.func @gelu_fast
// CHECK-SAME: (%[[X:.*]]: tensor<4x32xf32>)
// CHECK-NEXT: %[[Y:.*]] = train.gelu %[[X]] {approximate = 1 : i32}
// CHECK-NEXT: return %[[Y]]
func.func @gelu_fast(%x: tensor<4x32xf32>) -> tensor<4x32xf32> {
  %half = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %c = train.constant dense<0.044715> : tensor<f32> : tensor<f32>
  %k = train.constant dense<0.7978845608> : tensor<f32> : tensor<f32>
  %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
  %kx = train.mul %k, %x : tensor<f32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %cx = train.mul %x, %c : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %cxx = train.mul %cx, %x : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %q = train.add %one, %cxx : tensor<f32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %t = train.mul %q, %kx : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %u = train.tanh %t : tensor<4x32xf32>
  %v = train.add %one, %u : tensor<f32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %w = train.mul %v, %x : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %y = train.mul %w, %half : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  return %y : tensor<4x32xf32>
}

// x*x*x, and the product with x distributed.
// CHECK-LABEL: func.func @gelu_cubed_by_products
// CHECK-SAME: (%[[X:.*]]: tensor<4x32xf32>)
// CHECK-NEXT: %[[Y:.*]] = train.gelu %[[X]] {approximate = 1 : i32}
// CHECK-NEXT: return %[[Y]]
func.func @gelu_cubed_by_products(%x: tensor<4x32xf32>) -> tensor<4x32xf32> {
  %half = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %c = train.constant dense<0.044715> : tensor<f32> : tensor<f32>
  %k = train.constant dense<0.797884583> : tensor<f32> : tensor<f32>
  %xx = train.mul %x, %x : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %xxx = train.mul %xx, %x : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %m = train.mul %c, %xxx : tensor<f32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %a = train.add %m, %x : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %t = train.mul %k, %a : tensor<f32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %u = train.tanh %t : tensor<4x32xf32>
  %xu = train.mul %x, %u : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %s = train.add %x, %xu : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %y = train.mul %half, %s : tensor<f32>, tensor<4x32xf32> -> tensor<4x32xf32>
  return %y : tensor<4x32xf32>
}

// torch.export below opset 20 (BERT).
// CHECK-LABEL: func.func @gelu_erf
// CHECK-SAME: (%[[X:.*]]: tensor<4x32xf32>)
// CHECK-NEXT: %[[Y:.*]] = train.gelu %[[X]] {approximate = 0 : i32}
// CHECK-NEXT: return %[[Y]]
func.func @gelu_erf(%x: tensor<4x32xf32>) -> tensor<4x32xf32> {
  %half = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %sq = train.constant dense<1.41421354> : tensor<f32> : tensor<f32>
  %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
  %d = train.div %x, %sq : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %u = train.erf %d : tensor<4x32xf32>
  %v = train.add %u, %one : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %w = train.mul %half, %v : tensor<f32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %y = train.mul %x, %w : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  return %y : tensor<4x32xf32>
}

// TorchScript: the halving last.
// CHECK-LABEL: func.func @gelu_erf_torchscript
// CHECK-SAME: (%[[X:.*]]: tensor<4x32xf32>)
// CHECK-NEXT: %[[Y:.*]] = train.gelu %[[X]] {approximate = 0 : i32}
// CHECK-NEXT: return %[[Y]]
func.func @gelu_erf_torchscript(%x: tensor<4x32xf32>) -> tensor<4x32xf32> {
  %half = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %sq = train.constant dense<1.41421354> : tensor<f32> : tensor<f32>
  %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
  %d = train.div %x, %sq : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %u = train.erf %d : tensor<4x32xf32>
  %v = train.add %u, %one : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %w = train.mul %x, %v : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %y = train.mul %w, %half : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  return %y : tensor<4x32xf32>
}

// A factor for the quotient and a quotient for the factor.
// CHECK-LABEL: func.func @gelu_erf_product
// CHECK-SAME: (%[[X:.*]]: tensor<4x32xf32>)
// CHECK-NEXT: %[[Y:.*]] = train.gelu %[[X]] {approximate = 0 : i32}
// CHECK-NEXT: return %[[Y]]
func.func @gelu_erf_product(%x: tensor<4x32xf32>) -> tensor<4x32xf32> {
  %isq = train.constant dense<0.707106769> : tensor<f32> : tensor<f32>
  %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
  %two = train.constant dense<2.0> : tensor<f32> : tensor<f32>
  %d = train.mul %isq, %x : tensor<f32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %u = train.erf %d : tensor<4x32xf32>
  %v = train.add %one, %u : tensor<f32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %h = train.div %x, %two : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %y = train.mul %v, %h : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  return %y : tensor<4x32xf32>
}

// x is itself a product: the match ends at it.
// CHECK-LABEL: func.func @gelu_of_product
// CHECK: %[[X:.*]] = train.mul
// CHECK-NEXT: train.gelu %[[X]] {approximate = 0 : i32}
// CHECK-NEXT: return
func.func @gelu_of_product(%a: tensor<4x32xf32>, %b: tensor<4x32xf32>) -> tensor<4x32xf32> {
  %half = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %sq = train.constant dense<1.41421354> : tensor<f32> : tensor<f32>
  %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
  %x = train.mul %a, %b : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %d = train.div %x, %sq : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %u = train.erf %d : tensor<4x32xf32>
  %v = train.add %u, %one : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %w = train.mul %x, %v : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %y = train.mul %w, %half : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  return %y : tensor<4x32xf32>
}

// 0.0447 is not 0.044715.
// CHECK-LABEL: func.func @no_gelu_other_constant
// CHECK-NOT: train.gelu
// CHECK: return
func.func @no_gelu_other_constant(%x: tensor<4x32xf32>) -> tensor<4x32xf32> {
  %half = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %three = train.constant dense<3.0> : tensor<f32> : tensor<f32>
  %c = train.constant dense<0.0447> : tensor<f32> : tensor<f32>
  %k = train.constant dense<0.797884583> : tensor<f32> : tensor<f32>
  %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
  %h = train.mul %x, %half : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %p = train.pow %x, %three : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %m = train.mul %p, %c : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %a = train.add %x, %m : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %t = train.mul %a, %k : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %u = train.tanh %t : tensor<4x32xf32>
  %v = train.add %u, %one : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %y = train.mul %h, %v : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  return %y : tensor<4x32xf32>
}

// Without the factor 1/2 it is something else.
// CHECK-LABEL: func.func @no_gelu_not_halved
// CHECK-NOT: train.gelu
// CHECK: return
func.func @no_gelu_not_halved(%x: tensor<4x32xf32>) -> tensor<4x32xf32> {
  %sq = train.constant dense<1.41421354> : tensor<f32> : tensor<f32>
  %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
  %d = train.div %x, %sq : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %u = train.erf %d : tensor<4x32xf32>
  %v = train.add %u, %one : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %y = train.mul %x, %v : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  return %y : tensor<4x32xf32>
}

// The error function has another use.
// CHECK-LABEL: func.func @no_gelu_of_shared_erf
// CHECK-NOT: train.gelu
// CHECK: return
func.func @no_gelu_of_shared_erf(%x: tensor<4x32xf32>) -> (tensor<4x32xf32>, tensor<4x32xf32>) {
  %half = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %sq = train.constant dense<1.41421354> : tensor<f32> : tensor<f32>
  %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
  %d = train.div %x, %sq : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %u = train.erf %d : tensor<4x32xf32>
  %v = train.add %u, %one : tensor<4x32xf32>, tensor<f32> -> tensor<4x32xf32>
  %w = train.mul %half, %v : tensor<f32>, tensor<4x32xf32> -> tensor<4x32xf32>
  %y = train.mul %x, %w : tensor<4x32xf32>, tensor<4x32xf32> -> tensor<4x32xf32>
  return %u, %y : tensor<4x32xf32>, tensor<4x32xf32>
}
