// RUN: zopt %s --split-input-file --verify-diagnostics

func.func @f(%a: tensor<3x4xf32>, %b: tensor<5x2xf32>) {
  // expected-error@+1 {{inner sizes 4 and 5 differ}}
  %0 = train.matmul %a, %b : tensor<3x4xf32>, tensor<5x2xf32> -> tensor<3x2xf32>
  return
}

// -----

func.func @f(%a: tensor<3x4xf32>, %b: tensor<4xf32>) {
  // expected-error@+1 {{operands have ranks 2 and 1, expected at least 2}}
  %0 = train.matmul %a, %b : tensor<3x4xf32>, tensor<4xf32> -> tensor<3xf32>
  return
}

// -----

func.func @f(%a: tensor<2x3x4xf32>, %b: tensor<5x4x2xf32>) {
  // expected-error@+1 {{batch shapes [2] and [5] do not broadcast}}
  %0 = train.matmul %a, %b : tensor<2x3x4xf32>, tensor<5x4x2xf32> -> tensor<2x3x2xf32>
  return
}

// -----

func.func @f(%a: tensor<2x3x4xf32>, %b: tensor<4x2xf32>) {
  // expected-error@+1 {{result has shape [3x2], expected [2x3x2]}}
  %0 = train.matmul %a, %b : tensor<2x3x4xf32>, tensor<4x2xf32> -> tensor<3x2xf32>
  return
}

// -----

func.func @f(%a: tensor<3x4xf32>, %b: tensor<4x2xbf16>) {
  // expected-error@+1 {{right operand has element type 'bf16', expected 'f32'}}
  %0 = train.matmul %a, %b : tensor<3x4xf32>, tensor<4x2xbf16> -> tensor<3x2xf32>
  return
}

// -----

func.func @f(%a: tensor<3x4xf32>, %b: tensor<4x2xf32>, %c: tensor<3xf32>) {
  // expected-error@+1 {{bias has shape [3], expected [2]}}
  %0 = train.matmul %a, %b bias %c : tensor<3xf32> : tensor<3x4xf32>, tensor<4x2xf32> -> tensor<3x2xf32>
  return
}

// -----

func.func @f(%q: tensor<2x4x3x8xf32>, %k: tensor<2x2x5x8xf32>, %k3: tensor<2x3x5x8xf32>, %m: tensor<2x5xi1>, %l: tensor<2x4x3xf32>) {
  // expected-error@+1 {{query [2x4x3x8], key [2x3x5x8] and value [2x3x5x8] do not agree}}
  %0:2 = train.attention %q, %k3, %k3 {scale = 1.0 : f64} : tensor<2x4x3x8xf32>, tensor<2x3x5x8xf32>, tensor<2x3x5x8xf32> -> tensor<2x4x3x8xf32>, tensor<2x4x3xf32>
  return
}

// -----

func.func @f(%q: tensor<2x4x3x8xf32>, %k: tensor<2x2x5x8xf32>, %k3: tensor<2x3x5x8xf32>, %m: tensor<2x5xi1>, %l: tensor<2x4x3xf32>) {
  // expected-error@+1 {{query [2x4x3x8], key [2x2x5x8] and value [2x3x5x8] do not agree}}
  %0:2 = train.attention %q, %k, %k3 {scale = 1.0 : f64} : tensor<2x4x3x8xf32>, tensor<2x2x5x8xf32>, tensor<2x3x5x8xf32> -> tensor<2x4x3x8xf32>, tensor<2x4x3xf32>
  return
}

// -----

func.func @f(%q: tensor<2x4x3x8xf32>, %k: tensor<2x2x5x8xf32>, %k3: tensor<2x3x5x8xf32>, %m: tensor<2x5xi1>, %l: tensor<2x4x3xf32>) {
  // expected-error@+1 {{mask [2x5] does not broadcast to the scores' [2x4x3x5]}}
  %0:2 = train.attention %q, %k, %k mask %m : tensor<2x5xi1> {scale = 1.0 : f64} : tensor<2x4x3x8xf32>, tensor<2x2x5x8xf32>, tensor<2x2x5x8xf32> -> tensor<2x4x3x8xf32>, tensor<2x4x3xf32>
  return
}

// -----

func.func @f(%q: tensor<2x4x3x8xf32>, %k: tensor<2x2x5x8xf32>, %k3: tensor<2x3x5x8xf32>, %m: tensor<2x5xi1>, %l: tensor<2x4x3xf32>) {
  // expected-error@+1 {{result has shape [2x4x3x7], expected [2x4x3x8]}}
  %0:2 = train.attention %q, %k, %k {scale = 1.0 : f64} : tensor<2x4x3x8xf32>, tensor<2x2x5x8xf32>, tensor<2x2x5x8xf32> -> tensor<2x4x3x7xf32>, tensor<2x4x3xf32>
  return
}

// -----

func.func @f(%q: tensor<2x4x3x8xf32>, %k: tensor<2x2x5x8xf32>, %k3: tensor<2x3x5x8xf32>, %m: tensor<2x5xi1>, %l: tensor<2x4x3xf32>) {
  // expected-error@+1 {{lse has shape [2x4], expected [2x4x3]}}
  %0:2 = train.attention %q, %k, %k {scale = 1.0 : f64} : tensor<2x4x3x8xf32>, tensor<2x2x5x8xf32>, tensor<2x2x5x8xf32> -> tensor<2x4x3x8xf32>, tensor<2x4xf32>
  return
}

// -----

func.func @f(%q: tensor<2x4x3x8xf32>, %k: tensor<2x2x5x8xf32>, %k3: tensor<2x3x5x8xf32>, %m: tensor<2x5xi1>, %l: tensor<2x4x3xf32>) {
  // expected-error@+1 {{result has shape [2x4x3x8], expected [2x2x5x8]}}
  %0:3 = train.attention_grad %q, %k, %k output %q lse %l cotangent %q {scale = 1.0 : f64} : tensor<2x4x3x8xf32>, tensor<2x2x5x8xf32>, tensor<2x2x5x8xf32>, tensor<2x4x3x8xf32>, tensor<2x4x3xf32>, tensor<2x4x3x8xf32> -> tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32>, tensor<2x2x5x8xf32>
  return
}

// -----

func.func @f(%q: tensor<2x4x3x8xf32>, %k: tensor<2x2x5x8xf32>, %k3: tensor<2x3x5x8xf32>, %m: tensor<2x5xi1>, %l: tensor<2x4x3xf32>) {
  // expected-error@+1 {{cotangent has shape [2x2x5x8], expected [2x4x3x8]}}
  %0:3 = train.attention_grad %q, %k, %k output %q lse %l cotangent %k {scale = 1.0 : f64} : tensor<2x4x3x8xf32>, tensor<2x2x5x8xf32>, tensor<2x2x5x8xf32>, tensor<2x4x3x8xf32>, tensor<2x4x3xf32>, tensor<2x2x5x8xf32> -> tensor<2x4x3x8xf32>, tensor<2x2x5x8xf32>, tensor<2x2x5x8xf32>
  return
}

// -----

func.func @f(%s: tensor<2x3x5xf32>) {
  // expected-error@+1 {{scores have rank 3, expected 4}}
  %0:2 = train.attention_probabilities %s : tensor<2x3x5xf32> -> tensor<2x3x5xf32>, tensor<2x3xf32>
  return
}

// -----

func.func @f(%s: tensor<2x4x3x5xf32>, %m: tensor<2x5xi1>) {
  // expected-error@+1 {{mask [2x5] does not broadcast to the scores' [2x4x3x5]}}
  %0:2 = train.attention_probabilities %s mask %m : tensor<2x5xi1> : tensor<2x4x3x5xf32> -> tensor<2x4x3x5xf32>, tensor<2x4x3xf32>
  return
}

// -----

func.func @f(%s: tensor<2x4x3x5xf32>) {
  // expected-error@+1 {{result has shape [2x4x3x4], expected [2x4x3x5]}}
  %0:2 = train.attention_probabilities %s : tensor<2x4x3x5xf32> -> tensor<2x4x3x4xf32>, tensor<2x4x3xf32>
  return
}

// -----

func.func @f(%s: tensor<2x4x3x5xf32>, %o: tensor<2x4x5x6xf32>, %l: tensor<2x4x3xf32>) {
  // expected-error@+1 {{output has shape [2x4x5x6], expected [2x4x3x6]}}
  %0:2 = train.attention_scores_grad %s lse %l dp %s output %o cotangent %o : tensor<2x4x3x5xf32>, tensor<2x4x3xf32>, tensor<2x4x3x5xf32>, tensor<2x4x5x6xf32>, tensor<2x4x5x6xf32> -> tensor<2x4x3x5xf32>, tensor<2x4x3x5xf32>
  return
}

// -----

func.func @f(%x: tensor<2x4x3x7xf32>, %c: tensor<1x1x3x3xf32>) {
  // expected-error@+1 {{rotates an odd last axis of 7}}
  %0 = train.rotary %x, %c, %c : tensor<2x4x3x7xf32>, tensor<1x1x3x3xf32>
  return
}

// -----

func.func @f(%x: tensor<2x4x3x8xf32>, %c: tensor<1x1x3x8xf32>) {
  // expected-error@+1 {{cos and sin [1x1x3x8] do not broadcast to [2x1x3x4]}}
  %0 = train.rotary %x, %c, %c : tensor<2x4x3x8xf32>, tensor<1x1x3x8xf32>
  return
}

// -----

func.func @f(%x: tensor<2x4x3x8xf32>, %c: tensor<1x1x3x1xf32>) {
  // expected-error@+1 {{cos and sin [1x1x3x1] do not end in 4}}
  %0 = train.rotary %x, %c, %c : tensor<2x4x3x8xf32>, tensor<1x1x3x1xf32>
  return
}

// -----

func.func @f(%x: tensor<3x4xbf16>, %w: tensor<5x5xbf16>) {
  // expected-error@+1 {{inner sizes 4 and 5 differ}}
  %0 = train.fused_matmul %x, %w {resultSegmentSizes = array<i32: 1, 0, 0>} : (tensor<3x4xbf16>, tensor<5x5xbf16>) -> tensor<3x5xbf16>
  return
}

// -----

func.func @f(%x: tensor<3x4xbf16>, %w: tensor<4x5xbf16>) {
  // expected-error@+1 {{with epilogue gelu lacks pre_activation}}
  %0 = train.fused_matmul %x, %w {epilogue = 1 : i32, resultSegmentSizes = array<i32: 1, 0, 0>} : (tensor<3x4xbf16>, tensor<4x5xbf16>) -> tensor<3x5xbf16>
  return
}

// -----

func.func @f(%x: tensor<3x4xbf16>, %w: tensor<4x5xbf16>) {
  // expected-error@+1 {{aux has shape [3x4], expected [3x5]}}
  %0 = train.fused_matmul %x, %w aux %x {epilogue = 2 : i32, resultSegmentSizes = array<i32: 1, 0, 0>} : (tensor<3x4xbf16>, tensor<4x5xbf16>, tensor<3x4xbf16>) -> tensor<3x5xbf16>
  return
}

// -----

func.func @f(%x: tensor<3x4xbf16>, %w: tensor<4x5xbf16>) {
  // expected-error@+1 {{has bias gradient kind lhs_rows, but no bias_gradient}}
  %0 = train.fused_matmul %x, %w {bias_gradient_kind = 1 : i32, resultSegmentSizes = array<i32: 1, 0, 0>} : (tensor<3x4xbf16>, tensor<4x5xbf16>) -> tensor<3x5xbf16>
  return
}

// -----

func.func @f(%x: tensor<2x3x4xbf16>, %w: tensor<4x5xbf16>) {
  // expected-error@+1 {{sums an operand, but its operands have ranks 3 and 2, expected 2}}
  %0:2 = train.fused_matmul %x, %w {bias_gradient_kind = 2 : i32, resultSegmentSizes = array<i32: 1, 0, 1>} : (tensor<2x3x4xbf16>, tensor<4x5xbf16>) -> (tensor<2x3x5xbf16>, tensor<5xbf16>)
  return
}

// -----

func.func @f(%x: tensor<3x4xbf16>, %w: tensor<4x5xbf16>) {
  // expected-error@+1 {{bias_gradient has shape [3], expected [5]}}
  %0:2 = train.fused_matmul %x, %w {bias_gradient_kind = 2 : i32, resultSegmentSizes = array<i32: 1, 0, 1>} : (tensor<3x4xbf16>, tensor<4x5xbf16>) -> (tensor<3x5xbf16>, tensor<3xbf16>)
  return
}

// -----

func.func @f(%x: tensor<3x4xbf16>, %w: tensor<4x5xbf16>, %r: tensor<3x5xbf16>, %q: tensor<5xbf16>) {
  // expected-error@+1 {{has an addend of type 'tensor<5xbf16>', expected 'tensor<3x5xbf16>' and neither an epilogue nor a bias gradient}}
  %0 = train.fused_matmul %x, %w addend %q {resultSegmentSizes = array<i32: 1, 0, 0>} : (tensor<3x4xbf16>, tensor<4x5xbf16>, tensor<5xbf16>) -> tensor<3x5xbf16>
  return
}

// -----

func.func @f(%x: tensor<3x4xbf16>, %w: tensor<4x5xbf16>, %r: tensor<3x5xbf16>, %q: tensor<5xbf16>) {
  // expected-error@+1 {{has an addend of type 'tensor<3x5xbf16>', expected 'tensor<3x5xbf16>' and neither an epilogue nor a bias gradient}}
  %0:2 = train.fused_matmul %x, %w addend %r {epilogue = 1 : i32, resultSegmentSizes = array<i32: 1, 1, 0>} : (tensor<3x4xbf16>, tensor<4x5xbf16>, tensor<3x5xbf16>) -> (tensor<3x5xbf16>, tensor<3x5xbf16>)
  return
}

// -----

func.func @f(%x: tensor<3x4xbf16>, %w: tensor<4x5xbf16>, %r: tensor<3x5xbf16>, %q: tensor<5xbf16>) {
  // expected-error@+1 {{has an addend of type 'tensor<3x5xbf16>', expected 'tensor<3x5xbf16>' and neither an epilogue nor a bias gradient}}
  %0:2 = train.fused_matmul %x, %w addend %r {bias_gradient_kind = 2 : i32, resultSegmentSizes = array<i32: 1, 0, 1>} : (tensor<3x4xbf16>, tensor<4x5xbf16>, tensor<3x5xbf16>) -> (tensor<3x5xbf16>, tensor<5xbf16>)
  return
}

// -----

func.func @f(%q: tensor<4x3x8xf32>) {
  // expected-error@+1 {{query, key and value have ranks 3, 3 and 3, expected 4}}
  %0:2 = train.attention %q, %q, %q {scale = 1.0 : f64} : tensor<4x3x8xf32>, tensor<4x3x8xf32>, tensor<4x3x8xf32> -> tensor<4x3x8xf32>, tensor<4x3xf32>
  return
}

// -----

func.func @f(%q: tensor<2x4x3x8xf32>, %v: tensor<2x4x3x8xbf16>) {
  // expected-error@+1 {{query, key and value have element types 'f32', 'f32' and 'bf16'}}
  %0:2 = train.attention %q, %q, %v {scale = 1.0 : f64} : tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32>, tensor<2x4x3x8xbf16> -> tensor<2x4x3x8xf32>, tensor<2x4x3xf32>
  return
}

// -----

func.func @f(%q: tensor<2x4x3x8xf32>, %m: tensor<3x3xi64>) {
  // expected-error@+1 {{mask has element type 'i64', expected i1 or a float}}
  %0:2 = train.attention %q, %q, %q mask %m : tensor<3x3xi64> {scale = 1.0 : f64} : tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32> -> tensor<2x4x3x8xf32>, tensor<2x4x3xf32>
  return
}

// -----

func.func @f(%s: tensor<2x4x3x5xf32>, %m: tensor<3x5xi64>) {
  // expected-error@+1 {{mask has element type 'i64', expected i1 or a float}}
  %0:2 = train.attention_probabilities %s mask %m : tensor<3x5xi64> : tensor<2x4x3x5xf32> -> tensor<2x4x3x5xf32>, tensor<2x4x3xf32>
  return
}

// -----

func.func @f(%x: tensor<4x3x8xf32>, %c: tensor<1x3x4xf32>) {
  // expected-error@+1 {{input has rank 3, expected 4}}
  %0 = train.rotary %x, %c, %c : tensor<4x3x8xf32>, tensor<1x3x4xf32>
  return
}
