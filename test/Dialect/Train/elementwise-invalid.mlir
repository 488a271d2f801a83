// RUN: zopt %s --split-input-file --verify-diagnostics

func.func @f(%a: tensor<2x3xf32>, %b: tensor<2xf32>) {
  // expected-error@+1 {{operand shapes [2x3] and [2] do not broadcast}}
  %0 = train.add %a, %b : tensor<2x3xf32>, tensor<2xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%a: tensor<2x3xf32>, %b: tensor<2xf32>) {
  // expected-error@+1 {{operand shapes [2x3] and [2] do not broadcast}}
  %0 = train.sub %a, %b : tensor<2x3xf32>, tensor<2xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%a: tensor<2x3xf32>, %b: tensor<2xf32>) {
  // expected-error@+1 {{operand shapes [2x3] and [2] do not broadcast}}
  %0 = train.mul %a, %b : tensor<2x3xf32>, tensor<2xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%a: tensor<2x3xf32>, %b: tensor<2xf32>) {
  // expected-error@+1 {{operand shapes [2x3] and [2] do not broadcast}}
  %0 = train.div %a, %b : tensor<2x3xf32>, tensor<2xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%a: tensor<2x3xf32>, %b: tensor<2xf32>) {
  // expected-error@+1 {{operand shapes [2x3] and [2] do not broadcast}}
  %0 = train.pow %a, %b : tensor<2x3xf32>, tensor<2xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%a: tensor<2x3xf32>, %b: tensor<2xf32>) {
  // expected-error@+1 {{operand shapes [2x3] and [2] do not broadcast}}
  %0 = train.max %a, %b : tensor<2x3xf32>, tensor<2xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%a: tensor<2x3xf32>, %b: tensor<2xf32>) {
  // expected-error@+1 {{operand shapes [2x3] and [2] do not broadcast}}
  %0 = train.min %a, %b : tensor<2x3xf32>, tensor<2xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%a: tensor<2x3xf32>, %b: tensor<3xf64>) {
  // expected-error@+1 {{right operand has element type 'f64', expected 'f32'}}
  %0 = train.add %a, %b : tensor<2x3xf32>, tensor<3xf64> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%a: tensor<2x3xf32>, %b: tensor<3xf32>) {
  // expected-error@+1 {{left operand has element type 'f32', expected 'f64'}}
  %0 = train.add %a, %b : tensor<2x3xf32>, tensor<3xf32> -> tensor<2x3xf64>
  return
}

// -----

func.func @f(%a: tensor<3xf32>, %b: tensor<3xf32>) {
  // expected-error@+1 {{operands broadcast to [3] but the result is [2x3]}}
  %0 = train.mul %a, %b : tensor<3xf32>, tensor<3xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%a: tensor<3xf32>) {
  // expected-error@+1 {{has element type 'f32', expected an integer}}
  %0 = train.and %a, %a : tensor<3xf32>, tensor<3xf32> -> tensor<3xf32>
  return
}

// -----

func.func @f(%a: tensor<3xi32>, %b: tensor<2xi32>) {
  // expected-error@+1 {{operand shapes [3] and [2] do not broadcast}}
  %0 = train.or %a, %b : tensor<3xi32>, tensor<2xi32> -> tensor<3xi32>
  return
}

// -----

func.func @f(%a: tensor<3xi32>, %b: tensor<3xi64>) {
  // expected-error@+1 {{right operand has element type 'i64', expected 'i32'}}
  %0 = train.compare lt %a, %b : tensor<3xi32>, tensor<3xi64> -> tensor<3xi1>
  return
}

// -----

func.func @f(%a: tensor<3xi32>, %b: tensor<2xi32>) {
  // expected-error@+1 {{operand shapes [3] and [2] do not broadcast}}
  %0 = train.compare lt %a, %b : tensor<3xi32>, tensor<2xi32> -> tensor<3xi1>
  return
}

// -----

func.func @f(%c: tensor<3xi1>, %a: tensor<3xf32>, %b: tensor<3xbf16>) {
  // expected-error@+1 {{second value has element type 'bf16', expected 'f32'}}
  %0 = train.select %c, %a, %b : tensor<3xi1>, tensor<3xf32>, tensor<3xbf16> -> tensor<3xf32>
  return
}

// -----

func.func @f(%c: tensor<2xi1>, %a: tensor<3xf32>) {
  // expected-error@+1 {{operand shapes [2] and [3] do not broadcast}}
  %0 = train.select %c, %a, %a : tensor<2xi1>, tensor<3xf32>, tensor<3xf32> -> tensor<3xf32>
  return
}

// -----

func.func @f(%a: tensor<?xf32>) {
  // expected-error@+1 {{must be statically shaped tensor}}
  %0 = train.neg %a : tensor<?xf32>
  return
}

// -----

// (C1) of fused.
func.func @f(%a: tensor<2x3xf32>) {
  // expected-error@+1 {{holds 'train.reduce_sum', which is not elementwise}}
  %0 = train.fused (%a) {
  ^bb0(%p: tensor<2x3xf32>):
    %1 = train.reduce_sum %p [0] : tensor<2x3xf32> -> tensor<3xf32>
    train.yield %1 : tensor<3xf32>
  } : (tensor<2x3xf32>) -> tensor<3xf32>
  return
}

// -----

// (C2) of fused.
func.func @f(%a: tensor<2x3xf32>, %b: tensor<3xf32>) {
  // expected-error@+1 {{result has shape [3], expected [2x3]}}
  %0:2 = train.fused (%a, %b) {
  ^bb0(%p: tensor<2x3xf32>, %q: tensor<3xf32>):
    %1 = train.neg %p : tensor<2x3xf32>
    %2 = train.neg %q : tensor<3xf32>
    train.yield %1, %2 : tensor<2x3xf32>, tensor<3xf32>
  } : (tensor<2x3xf32>, tensor<3xf32>) -> (tensor<2x3xf32>, tensor<3xf32>)
  return
}

// -----

func.func @f(%a: tensor<3xf32>) {
  // expected-error@+1 {{body's arguments do not mirror the operands}}
  %0 = train.fused (%a) {
  ^bb0(%p: tensor<2xf32>):
    %1 = train.neg %p : tensor<2xf32>
    train.yield %1 : tensor<2xf32>
  } : (tensor<3xf32>) -> tensor<2xf32>
  return
}

// -----

func.func @f(%a: tensor<2x3xf32>, %b: tensor<2xf32>) {
  // expected-error@+1 {{operand shapes [2x3] and [2] do not broadcast}}
  %0 = train.rem %a, %b : tensor<2x3xf32>, tensor<2xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%a: tensor<2x3xf32>) {
  // expected-error@+1 {{has element type 'f32', expected an integer}}
  %0 = train.xor %a, %a : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%a: tensor<2x3xf32>) {
  // expected-error@+1 {{has element type 'f32', expected an integer}}
  %0 = train.shift_left %a, %a : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%a: tensor<2xui8>, %b: tensor<2xi8>) {
  // expected-error@+1 {{right operand has element type 'i8', expected 'ui8'}}
  %0 = train.shift_right %a, %b : tensor<2xui8>, tensor<2xi8> -> tensor<2xui8>
  return
}

// -----

func.func @f() {
  // expected-error@+1 {{literal has 1032 bytes, more than 1024}}
  %0 = train.constant dense<"0xFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"> : tensor<1032xi1> : tensor<1032xi1>
  return
}

// -----

func.func @f(%a: tensor<2xf32>) {
  // expected-error@+1 {{takes 'f32' to 'f64', expected one of floats and one of integers}}
  %0 = train.bitcast %a as f32 : tensor<2xf32> -> tensor<2xf64>
  return
}

// -----

func.func @f() {
  // expected-error@+1 {{literal is a resource; weights are referenced by #train.weight}}
  %0 = train.constant dense_resource<blob> : tensor<1xf32> : tensor<1xf32>
  return
}
{-# dialect_resources: {builtin: {blob: "0x0400000000000000"}} #-}

// -----

func.func @f(%x: tensor<2xf32>) {
  // expected-error@+1 {{body does not end in train.yield}}
  %0 = "train.fused"(%x) ({
  ^bb0(%a: tensor<2xf32>):
    ub.unreachable
  }) : (tensor<2xf32>) -> tensor<2xf32>
  return
}

// -----

func.func @f(%x: tensor<2xf32>) {
  // expected-error@+1 {{body does not yield the result types}}
  %0 = "train.fused"(%x) ({
  ^bb0(%a: tensor<2xf32>):
    train.yield %a : tensor<2xf32>
  }) : (tensor<2xf32>) -> tensor<2xf64>
  return
}

// -----

func.func @f(%x: tensor<3xf32>) {
  // expected-error@+1 {{operand of shape [3] does not broadcast to [2]}}
  %0 = "train.fused"(%x) ({
  ^bb0(%a: tensor<3xf32>):
    %c = train.constant dense<0.0> : tensor<2xf32> : tensor<2xf32>
    train.yield %c : tensor<2xf32>
  }) : (tensor<3xf32>) -> tensor<2xf32>
  return
}

// -----

func.func @f(%a: tensor<2xf32>) {
  // expected-error@+1 {{has the format 'f16', expected a float of the width of 'i32'}}
  %0 = train.bitcast %a as f16 : tensor<2xf32> -> tensor<2xi32>
  return
}
