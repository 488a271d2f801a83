// RUN: zopt %s --zopt-raise-linear --zopt-raise-attention | FileCheck %s

// torch.export: q and k are each scaled by the root of the scale, k is transposed through 3-D, the causal mask is selected from 0 and the lowest float, NaN becomes 0.
// CHECK-LABEL: func.func @sdpa_causal
// CHECK-SAME: (%[[Q:.*]]: tensor<2x4x8x16xf32>, %[[K:.*]]: tensor<2x4x8x16xf32>, %[[V:.*]]: tensor<2x4x8x16xf32>)
// CHECK-NEXT: %[[Y:.*]], %{{.*}} = train.attention %[[Q]], %[[K]], %[[V]] {causal, scale = 2.500000e-01 : f64} : tensor<2x4x8x16xf32>, tensor<2x4x8x16xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>, tensor<2x4x8xf32>
// CHECK-NEXT: return %[[Y]]
func.func @sdpa_causal(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %row = train.iota 2 {start = 0 : i64} : tensor<1x1x8x1xi64>
  %column = train.iota 3 : tensor<1x1x1x8xi64>
  %visible = train.compare le %column, %row : tensor<1x1x1x8xi64>, tensor<1x1x8x1xi64> -> tensor<1x1x8x8xi1>
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %low = train.constant dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %mask = train.select %visible, %zero, %low : tensor<1x1x8x8xi1>, tensor<f32>, tensor<f32> -> tensor<1x1x8x8xf32>
  %s = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %nought = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %k0 = train.reshape %k : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
  %k1 = train.transpose %k0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %k2 = train.reshape %k1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  %qs = train.mul %q, %s : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %ks = train.mul %k2, %s : tensor<2x4x16x8xf32>, tensor<f32> -> tensor<2x4x16x8xf32>
  %scores = train.matmul %qs, %ks : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.add %scores, %mask : tensor<2x4x8x8xf32>, tensor<1x1x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %nan = train.is_nan %p : tensor<2x4x8x8xf32> -> tensor<2x4x8x8xi1>
  %safe = train.select %nan, %nought, %p : tensor<2x4x8x8xi1>, tensor<f32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
  %out = train.matmul %safe, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// TorchScript, eager attention: heads and the last two axes of k move in one transpose, the scale is a factor behind the product, NaN is not looked for.
// CHECK-LABEL: func.func @torchscript
// CHECK-SAME: (%[[Q:.*]]: tensor<2x8x4x16xf32>, %[[K:.*]]: tensor<2x8x4x16xf32>, %[[V:.*]]: tensor<2x8x4x16xf32>)
// CHECK-DAG: %[[TQ:.*]] = train.transpose %[[Q]] [0, 2, 1, 3]
// CHECK-DAG: %[[TK:.*]] = train.transpose %[[K]] [0, 2, 1, 3]
// CHECK-DAG: %[[TV:.*]] = train.transpose %[[V]] [0, 2, 1, 3]
// CHECK: train.attention %[[TQ]], %[[TK]], %[[TV]] {causal, scale = 2.500000e-01 : f64}
func.func @torchscript(%q: tensor<2x8x4x16xf32>, %k: tensor<2x8x4x16xf32>, %v: tensor<2x8x4x16xf32>) -> tensor<2x4x8x16xf32> {
  %row = train.iota 2 {start = 0 : i64} : tensor<1x1x8x1xi64>
  %column = train.iota 3 : tensor<1x1x1x8xi64>
  %visible = train.compare le %column, %row : tensor<1x1x1x8xi64>, tensor<1x1x8x1xi64> -> tensor<1x1x8x8xi1>
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %low = train.constant dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %mask = train.select %visible, %zero, %low : tensor<1x1x8x8xi1>, tensor<f32>, tensor<f32> -> tensor<1x1x8x8xf32>
  %s = train.constant dense<0.25> : tensor<f32> : tensor<f32>
  %qt = train.transpose %q [0, 2, 1, 3] : tensor<2x8x4x16xf32> -> tensor<2x4x8x16xf32>
  %kt = train.transpose %k [0, 2, 3, 1] : tensor<2x8x4x16xf32> -> tensor<2x4x16x8xf32>
  %vt = train.transpose %v [0, 2, 1, 3] : tensor<2x8x4x16xf32> -> tensor<2x4x8x16xf32>
  %raw = train.matmul %qt, %kt : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %scores = train.mul %raw, %s : tensor<2x4x8x8xf32>, tensor<f32> -> tensor<2x4x8x8xf32>
  %hidden = train.add %scores, %mask : tensor<2x4x8x8xf32>, tensor<1x1x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %out = train.matmul %p, %vt : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// A quotient by the root of the head dimension, and no mask.
// CHECK-LABEL: func.func @no_mask
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}} {scale = 2.500000e-01 : f64}
func.func @no_mask(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %four = train.constant dense<4.0> : tensor<f32> : tensor<f32>
  %kt = train.transpose %k [0, 1, 3, 2] : tensor<2x4x8x16xf32> -> tensor<2x4x16x8xf32>
  %raw = train.matmul %q, %kt : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %scores = train.div %raw, %four : tensor<2x4x8x8xf32>, tensor<f32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %scores : tensor<2x4x8x8xf32>
  %out = train.matmul %p, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// ViT: a mask that shows everything vanishes.
// CHECK-LABEL: func.func @all_visible
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}} {scale = 2.500000e-01 : f64}
func.func @all_visible(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %visible = train.constant dense<true> : tensor<1x1x8x8xi1> : tensor<1x1x8x8xi1>
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %low = train.constant dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %mask = train.select %visible, %zero, %low : tensor<1x1x8x8xi1>, tensor<f32>, tensor<f32> -> tensor<1x1x8x8xf32>
  %s = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %nought = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %k0 = train.reshape %k : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
  %k1 = train.transpose %k0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %k2 = train.reshape %k1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  %qs = train.mul %q, %s : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %ks = train.mul %k2, %s : tensor<2x4x16x8xf32>, tensor<f32> -> tensor<2x4x16x8xf32>
  %scores = train.matmul %qs, %ks : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.add %scores, %mask : tensor<2x4x8x8xf32>, tensor<1x1x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %nan = train.is_nan %p : tensor<2x4x8x8xf32> -> tensor<2x4x8x8xi1>
  %safe = train.select %nan, %nought, %p : tensor<2x4x8x8xi1>, tensor<f32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
  %out = train.matmul %safe, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// Scores are replaced, not added to; the comparison is the other way round, and strict.
// CHECK-LABEL: func.func @selected_scores
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}} {causal, scale = 1.000000e+00 : f64}
func.func @selected_scores(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %row = train.iota 0 : tensor<8x1xi64>
  %column = train.iota 1 : tensor<1x8xi64>
  %hides = train.compare gt %column, %row : tensor<1x8xi64>, tensor<8x1xi64> -> tensor<8x8xi1>
  %low = train.constant dense<0xFF800000> : tensor<f32> : tensor<f32>
  %raw = train.matmul %q, %k {transpose_rhs} : tensor<2x4x8x16xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.select %hides, %low, %raw : tensor<8x8xi1>, tensor<f32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %out = train.matmul %p, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// A triangle of ones, taken from 1 and multiplied by the lowest float: older exports.
// CHECK-LABEL: func.func @arithmetic_mask
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}} {causal, scale = 2.500000e-01 : f64}
func.func @arithmetic_mask(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %row = train.iota 2 {start = 0 : i64} : tensor<1x1x8x1xi64>
  %column = train.iota 3 : tensor<1x1x1x8xi64>
  %visible = train.compare le %column, %row : tensor<1x1x1x8xi64>, tensor<1x1x8x1xi64> -> tensor<1x1x8x8xi1>
  %one = train.constant dense<1.0> : tensor<f32> : tensor<f32>
  %low = train.constant dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %ones = train.cast %visible : tensor<1x1x8x8xi1> -> tensor<1x1x8x8xf32>
  %not = train.sub %one, %ones : tensor<f32>, tensor<1x1x8x8xf32> -> tensor<1x1x8x8xf32>
  %mask = train.mul %not, %low : tensor<1x1x8x8xf32>, tensor<f32> -> tensor<1x1x8x8xf32>
  %s = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %nought = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %k0 = train.reshape %k : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
  %k1 = train.transpose %k0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %k2 = train.reshape %k1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  %qs = train.mul %q, %s : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %ks = train.mul %k2, %s : tensor<2x4x16x8xf32>, tensor<f32> -> tensor<2x4x16x8xf32>
  %scores = train.matmul %qs, %ks : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.add %scores, %mask : tensor<2x4x8x8xf32>, tensor<1x1x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %nan = train.is_nan %p : tensor<2x4x8x8xf32> -> tensor<2x4x8x8xi1>
  %safe = train.select %nan, %nought, %p : tensor<2x4x8x8xi1>, tensor<f32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
  %out = train.matmul %safe, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// BERT: hidden with the lowest float. Rows that see nothing attend to everything alike in this graph, so the mask stays a sum.
// CHECK-LABEL: func.func @padding_finite
// CHECK: %[[M:.*]] = train.select %{{.*}} -> tensor<2x1x8x8xf32>
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}} mask %[[M]] : tensor<2x1x8x8xf32> {scale = 2.500000e-01 : f64}
func.func @padding_finite(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>, %visible: tensor<2x1x8x8xi1>) -> tensor<2x4x8x16xf32> {
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %low = train.constant dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %mask = train.select %visible, %zero, %low : tensor<2x1x8x8xi1>, tensor<f32>, tensor<f32> -> tensor<2x1x8x8xf32>
  %s = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %nought = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %k0 = train.reshape %k : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
  %k1 = train.transpose %k0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %k2 = train.reshape %k1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  %qs = train.mul %q, %s : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %ks = train.mul %k2, %s : tensor<2x4x16x8xf32>, tensor<f32> -> tensor<2x4x16x8xf32>
  %scores = train.matmul %qs, %ks : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.add %scores, %mask : tensor<2x4x8x8xf32>, tensor<2x1x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %nan = train.is_nan %p : tensor<2x4x8x8xf32> -> tensor<2x4x8x8xi1>
  %safe = train.select %nan, %nought, %p : tensor<2x4x8x8xi1>, tensor<f32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
  %out = train.matmul %safe, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// Hidden with -inf: the condition is the mask.
// CHECK-LABEL: func.func @padding_infinite
// CHECK-SAME: (%[[Q:.*]]: tensor<2x4x8x16xf32>, %[[K:.*]]: tensor<2x4x8x16xf32>, %[[V:.*]]: tensor<2x4x8x16xf32>, %[[M:.*]]: tensor<2x1x8x8xi1>)
// CHECK: train.attention %[[Q]], %[[K]], %[[V]] mask %[[M]] : tensor<2x1x8x8xi1> {scale = 2.500000e-01 : f64}
func.func @padding_infinite(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>, %visible: tensor<2x1x8x8xi1>) -> tensor<2x4x8x16xf32> {
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %low = train.constant dense<0xFF800000> : tensor<f32> : tensor<f32>
  %mask = train.select %visible, %zero, %low : tensor<2x1x8x8xi1>, tensor<f32>, tensor<f32> -> tensor<2x1x8x8xf32>
  %s = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %nought = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %k0 = train.reshape %k : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
  %k1 = train.transpose %k0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %k2 = train.reshape %k1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  %qs = train.mul %q, %s : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %ks = train.mul %k2, %s : tensor<2x4x16x8xf32>, tensor<f32> -> tensor<2x4x16x8xf32>
  %scores = train.matmul %qs, %ks : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.add %scores, %mask : tensor<2x4x8x8xf32>, tensor<2x1x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %nan = train.is_nan %p : tensor<2x4x8x8xf32> -> tensor<2x4x8x8xi1>
  %safe = train.select %nan, %nought, %p : tensor<2x4x8x8xi1>, tensor<f32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
  %out = train.matmul %safe, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// A conjunction, hidden with -inf: the causal part becomes an attribute.
// CHECK-LABEL: func.func @causal_and_padding
// CHECK-SAME: (%[[Q:.*]]: tensor<2x4x8x16xf32>, %[[K:.*]]: tensor<2x4x8x16xf32>, %[[V:.*]]: tensor<2x4x8x16xf32>, %[[M:.*]]: tensor<2x1x1x8xi1>)
// CHECK: train.attention %[[Q]], %[[K]], %[[V]] mask %[[M]] : tensor<2x1x1x8xi1> {causal, scale = 2.500000e-01 : f64}
func.func @causal_and_padding(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>, %keys: tensor<2x1x1x8xi1>) -> tensor<2x4x8x16xf32> {
  %row = train.iota 2 {start = 0 : i64} : tensor<1x1x8x1xi64>
  %column = train.iota 3 : tensor<1x1x1x8xi64>
  %visible = train.compare le %column, %row : tensor<1x1x1x8xi64>, tensor<1x1x8x1xi64> -> tensor<1x1x8x8xi1>
  %both = train.and %visible, %keys : tensor<1x1x8x8xi1>, tensor<2x1x1x8xi1> -> tensor<2x1x8x8xi1>
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %low = train.constant dense<0xFF800000> : tensor<f32> : tensor<f32>
  %mask = train.select %both, %zero, %low : tensor<2x1x8x8xi1>, tensor<f32>, tensor<f32> -> tensor<2x1x8x8xf32>
  %s = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %nought = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %k0 = train.reshape %k : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
  %k1 = train.transpose %k0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %k2 = train.reshape %k1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  %qs = train.mul %q, %s : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %ks = train.mul %k2, %s : tensor<2x4x16x8xf32>, tensor<f32> -> tensor<2x4x16x8xf32>
  %scores = train.matmul %qs, %ks : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.add %scores, %mask : tensor<2x4x8x8xf32>, tensor<2x1x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %nan = train.is_nan %p : tensor<2x4x8x8xf32> -> tensor<2x4x8x8xi1>
  %safe = train.select %nan, %nought, %p : tensor<2x4x8x8xi1>, tensor<f32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
  %out = train.matmul %safe, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// A window is no causal mask.
// CHECK-LABEL: func.func @sliding_window
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}} mask %{{.*}} : tensor<1x1x8x8xf32> {scale = 2.500000e-01 : f64}
func.func @sliding_window(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %row = train.iota 2 {start = 0 : i64} : tensor<1x1x8x1xi64>
  %column = train.iota 3 : tensor<1x1x1x8xi64>
  %visible = train.compare le %column, %row : tensor<1x1x1x8xi64>, tensor<1x1x8x1xi64> -> tensor<1x1x8x8xi1>
  %first = train.iota 2 {start = -4 : i64} : tensor<1x1x8x1xi64>
  %near = train.compare gt %column, %first : tensor<1x1x1x8xi64>, tensor<1x1x8x1xi64> -> tensor<1x1x8x8xi1>
  %both = train.and %visible, %near : tensor<1x1x8x8xi1>, tensor<1x1x8x8xi1> -> tensor<1x1x8x8xi1>
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %low = train.constant dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %mask = train.select %both, %zero, %low : tensor<1x1x8x8xi1>, tensor<f32>, tensor<f32> -> tensor<1x1x8x8xf32>
  %s = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %nought = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %k0 = train.reshape %k : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
  %k1 = train.transpose %k0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %k2 = train.reshape %k1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  %qs = train.mul %q, %s : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %ks = train.mul %k2, %s : tensor<2x4x16x8xf32>, tensor<f32> -> tensor<2x4x16x8xf32>
  %scores = train.matmul %qs, %ks : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.add %scores, %mask : tensor<2x4x8x8xf32>, tensor<1x1x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %nan = train.is_nan %p : tensor<2x4x8x8xf32> -> tensor<2x4x8x8xi1>
  %safe = train.select %nan, %nought, %p : tensor<2x4x8x8xi1>, tensor<f32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
  %out = train.matmul %safe, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// One diagonal more than causal.
// CHECK-LABEL: func.func @no_causal_off_diagonal
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}} mask %{{.*}} : tensor<1x1x8x8xf32> {scale = 2.500000e-01 : f64}
func.func @no_causal_off_diagonal(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %row = train.iota 2 {start = 1 : i64} : tensor<1x1x8x1xi64>
  %column = train.iota 3 : tensor<1x1x1x8xi64>
  %visible = train.compare le %column, %row : tensor<1x1x1x8xi64>, tensor<1x1x8x1xi64> -> tensor<1x1x8x8xi1>
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %low = train.constant dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %mask = train.select %visible, %zero, %low : tensor<1x1x8x8xi1>, tensor<f32>, tensor<f32> -> tensor<1x1x8x8xf32>
  %s = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %nought = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %k0 = train.reshape %k : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
  %k1 = train.transpose %k0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %k2 = train.reshape %k1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  %qs = train.mul %q, %s : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %ks = train.mul %k2, %s : tensor<2x4x16x8xf32>, tensor<f32> -> tensor<2x4x16x8xf32>
  %scores = train.matmul %qs, %ks : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.add %scores, %mask : tensor<2x4x8x8xf32>, tensor<1x1x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %nan = train.is_nan %p : tensor<2x4x8x8xf32> -> tensor<2x4x8x8xi1>
  %safe = train.select %nan, %nought, %p : tensor<2x4x8x8xi1>, tensor<f32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
  %out = train.matmul %safe, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// -1e4 does not hide for certain: the mask stays a sum.
// CHECK-LABEL: func.func @no_causal_by_small_number
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}} mask %{{.*}} : tensor<1x1x8x8xf32> {scale = 2.500000e-01 : f64}
func.func @no_causal_by_small_number(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %row = train.iota 2 {start = 0 : i64} : tensor<1x1x8x1xi64>
  %column = train.iota 3 : tensor<1x1x1x8xi64>
  %visible = train.compare le %column, %row : tensor<1x1x1x8xi64>, tensor<1x1x8x1xi64> -> tensor<1x1x8x8xi1>
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %low = train.constant dense<-1.0e+04> : tensor<f32> : tensor<f32>
  %mask = train.select %visible, %zero, %low : tensor<1x1x8x8xi1>, tensor<f32>, tensor<f32> -> tensor<1x1x8x8xf32>
  %s = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %nought = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %k0 = train.reshape %k : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
  %k1 = train.transpose %k0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %k2 = train.reshape %k1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  %qs = train.mul %q, %s : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %ks = train.mul %k2, %s : tensor<2x4x16x8xf32>, tensor<f32> -> tensor<2x4x16x8xf32>
  %scores = train.matmul %qs, %ks : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.add %scores, %mask : tensor<2x4x8x8xf32>, tensor<1x1x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %nan = train.is_nan %p : tensor<2x4x8x8xf32> -> tensor<2x4x8x8xi1>
  %safe = train.select %nan, %nought, %p : tensor<2x4x8x8xi1>, tensor<f32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
  %out = train.matmul %safe, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// Probabilities are a result of the model: attention does not give them.
// CHECK-LABEL: func.func @no_attention_of_shared_probabilities
// CHECK-NOT: train.attention
// CHECK: return
func.func @no_attention_of_shared_probabilities(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>) -> (tensor<2x4x8x16xf32>, tensor<2x4x8x8xf32>) {
  %row = train.iota 2 {start = 0 : i64} : tensor<1x1x8x1xi64>
  %column = train.iota 3 : tensor<1x1x1x8xi64>
  %visible = train.compare le %column, %row : tensor<1x1x1x8xi64>, tensor<1x1x8x1xi64> -> tensor<1x1x8x8xi1>
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %low = train.constant dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %mask = train.select %visible, %zero, %low : tensor<1x1x8x8xi1>, tensor<f32>, tensor<f32> -> tensor<1x1x8x8xf32>
  %s = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %nought = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %k0 = train.reshape %k : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
  %k1 = train.transpose %k0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %k2 = train.reshape %k1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  %qs = train.mul %q, %s : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %ks = train.mul %k2, %s : tensor<2x4x16x8xf32>, tensor<f32> -> tensor<2x4x16x8xf32>
  %scores = train.matmul %qs, %ks : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.add %scores, %mask : tensor<2x4x8x8xf32>, tensor<1x1x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %out = train.matmul %p, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out, %p : tensor<2x4x8x16xf32>, tensor<2x4x8x8xf32>
}

// A learned bias of positions has a gradient.
// CHECK-LABEL: func.func @no_attention_with_trained_bias
// CHECK-NOT: train.attention
// CHECK: return
train.state @bias : tensor<4x8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
func.func @no_attention_with_trained_bias(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %mask = train.read_state @bias : tensor<4x8x8xf32>
  %s = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %nought = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %k0 = train.reshape %k : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
  %k1 = train.transpose %k0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %k2 = train.reshape %k1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  %qs = train.mul %q, %s : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %ks = train.mul %k2, %s : tensor<2x4x16x8xf32>, tensor<f32> -> tensor<2x4x16x8xf32>
  %scores = train.matmul %qs, %ks : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.add %scores, %mask : tensor<2x4x8x8xf32>, tensor<4x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %nan = train.is_nan %p : tensor<2x4x8x8xf32> -> tensor<2x4x8x8xi1>
  %safe = train.select %nan, %nought, %p : tensor<2x4x8x8xi1>, tensor<f32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
  %out = train.matmul %safe, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// Llama: two query heads read one key head.
// CHECK-LABEL: func.func @grouped_queries
// CHECK-SAME: (%[[Q:.*]]: tensor<2x4x8x16xf32>, %[[K:.*]]: tensor<2x2x8x16xf32>, %[[V:.*]]: tensor<2x2x8x16xf32>)
// CHECK-NEXT: %{{.*}}, %{{.*}} = train.attention %[[Q]], %[[K]], %[[V]] {causal, scale = 2.500000e-01 : f64} : tensor<2x4x8x16xf32>, tensor<2x2x8x16xf32>, tensor<2x2x8x16xf32>
// CHECK-NEXT: return
func.func @grouped_queries(%q: tensor<2x4x8x16xf32>, %kg: tensor<2x2x8x16xf32>, %vg: tensor<2x2x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %kg0 = train.reshape %kg : tensor<2x2x8x16xf32> -> tensor<2x2x1x8x16xf32>
  %kg1 = train.broadcast %kg0 : tensor<2x2x1x8x16xf32> -> tensor<2x2x2x8x16xf32>
  %k = train.reshape %kg1 : tensor<2x2x2x8x16xf32> -> tensor<2x4x8x16xf32>
  %vg0 = train.reshape %vg : tensor<2x2x8x16xf32> -> tensor<2x2x1x8x16xf32>
  %vg1 = train.broadcast %vg0 : tensor<2x2x1x8x16xf32> -> tensor<2x2x2x8x16xf32>
  %v = train.reshape %vg1 : tensor<2x2x2x8x16xf32> -> tensor<2x4x8x16xf32>
  %row = train.iota 2 {start = 0 : i64} : tensor<1x1x8x1xi64>
  %column = train.iota 3 : tensor<1x1x1x8xi64>
  %visible = train.compare le %column, %row : tensor<1x1x1x8xi64>, tensor<1x1x8x1xi64> -> tensor<1x1x8x8xi1>
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %low = train.constant dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %mask = train.select %visible, %zero, %low : tensor<1x1x8x8xi1>, tensor<f32>, tensor<f32> -> tensor<1x1x8x8xf32>
  %s = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %nought = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %k0 = train.reshape %k : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
  %k1 = train.transpose %k0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %k2 = train.reshape %k1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  %qs = train.mul %q, %s : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %ks = train.mul %k2, %s : tensor<2x4x16x8xf32>, tensor<f32> -> tensor<2x4x16x8xf32>
  %scores = train.matmul %qs, %ks : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.add %scores, %mask : tensor<2x4x8x8xf32>, tensor<1x1x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %nan = train.is_nan %p : tensor<2x4x8x8xf32> -> tensor<2x4x8x8xi1>
  %safe = train.select %nan, %nought, %p : tensor<2x4x8x8xi1>, tensor<f32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
  %out = train.matmul %safe, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// Attention of opset 23: a boolean mask that is causal, and repeated heads.
// CHECK-LABEL: func.func @imported
// CHECK-SAME: (%[[Q:.*]]: tensor<2x4x8x16xf32>, %[[K:.*]]: tensor<2x2x8x16xf32>, %[[V:.*]]: tensor<2x2x8x16xf32>)
// CHECK-NEXT: %{{.*}}, %{{.*}} = train.attention %[[Q]], %[[K]], %[[V]] {causal, scale = 2.500000e-01 : f64} : tensor<2x4x8x16xf32>, tensor<2x2x8x16xf32>, tensor<2x2x8x16xf32>
// CHECK-NEXT: return
func.func @imported(%q: tensor<2x4x8x16xf32>, %kg: tensor<2x2x8x16xf32>, %vg: tensor<2x2x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %kg0 = train.reshape %kg : tensor<2x2x8x16xf32> -> tensor<2x2x1x8x16xf32>
  %kg1 = train.broadcast %kg0 : tensor<2x2x1x8x16xf32> -> tensor<2x2x2x8x16xf32>
  %k = train.reshape %kg1 : tensor<2x2x2x8x16xf32> -> tensor<2x4x8x16xf32>
  %vg0 = train.reshape %vg : tensor<2x2x8x16xf32> -> tensor<2x2x1x8x16xf32>
  %vg1 = train.broadcast %vg0 : tensor<2x2x1x8x16xf32> -> tensor<2x2x2x8x16xf32>
  %v = train.reshape %vg1 : tensor<2x2x2x8x16xf32> -> tensor<2x4x8x16xf32>
  %row = train.iota 2 {start = 0 : i64} : tensor<1x1x8x1xi64>
  %column = train.iota 3 : tensor<1x1x1x8xi64>
  %visible = train.compare le %column, %row : tensor<1x1x1x8xi64>, tensor<1x1x8x1xi64> -> tensor<1x1x8x8xi1>
  %mask = train.broadcast %visible : tensor<1x1x8x8xi1> -> tensor<2x1x8x8xi1>
  %out, %lse = train.attention %q, %k, %v mask %mask : tensor<2x1x8x8xi1> {scale = 0.25 : f64} : tensor<2x4x8x16xf32>, tensor<2x4x8x16xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>, tensor<2x4x8xf32>
  return %out : tensor<2x4x8x16xf32>
}

// Heads repeated as a whole (0 1 0 1) are not grouped queries (0 0 1 1).
// CHECK-LABEL: func.func @no_groups_of_heads_in_turn
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}} {scale = 2.500000e-01 : f64} : tensor<2x4x8x16xf32>, tensor<2x4x8x16xf32>, tensor<2x4x8x16xf32>
func.func @no_groups_of_heads_in_turn(%q: tensor<2x4x8x16xf32>, %kg: tensor<2x2x8x16xf32>, %vg: tensor<2x2x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %kg0 = train.reshape %kg : tensor<2x2x8x16xf32> -> tensor<2x1x2x8x16xf32>
  %kg1 = train.broadcast %kg0 : tensor<2x1x2x8x16xf32> -> tensor<2x2x2x8x16xf32>
  %k = train.reshape %kg1 : tensor<2x2x2x8x16xf32> -> tensor<2x4x8x16xf32>
  %vg0 = train.reshape %vg : tensor<2x2x8x16xf32> -> tensor<2x1x2x8x16xf32>
  %vg1 = train.broadcast %vg0 : tensor<2x1x2x8x16xf32> -> tensor<2x2x2x8x16xf32>
  %v = train.reshape %vg1 : tensor<2x2x2x8x16xf32> -> tensor<2x4x8x16xf32>
  %out, %lse = train.attention %q, %k, %v {scale = 0.25 : f64} : tensor<2x4x8x16xf32>, tensor<2x4x8x16xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>, tensor<2x4x8xf32>
  return %out : tensor<2x4x8x16xf32>
}

// A cache of four positions: row t sees t + 4.
// CHECK-LABEL: func.func @more_keys_than_queries
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}} {causal, scale = 1.000000e+00 : f64}
func.func @more_keys_than_queries(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x12x16xf32>, %v: tensor<2x4x12x16xf32>) -> tensor<2x4x8x16xf32> {
  %row = train.iota 2 {start = 4 : i64} : tensor<1x1x8x1xi64>
  %column = train.iota 3 : tensor<1x1x1x12xi64>
  %visible = train.compare le %column, %row : tensor<1x1x1x12xi64>, tensor<1x1x8x1xi64> -> tensor<1x1x8x12xi1>
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %low = train.constant dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %mask = train.select %visible, %zero, %low : tensor<1x1x8x12xi1>, tensor<f32>, tensor<f32> -> tensor<1x1x8x12xf32>
  %raw = train.matmul %q, %k {transpose_rhs} : tensor<2x4x8x16xf32>, tensor<2x4x12x16xf32> -> tensor<2x4x8x12xf32>
  %hidden = train.add %mask, %raw : tensor<1x1x8x12xf32>, tensor<2x4x8x12xf32> -> tensor<2x4x8x12xf32>
  %p = train.softmax %hidden : tensor<2x4x8x12xf32>
  %out = train.matmul %p, %v : tensor<2x4x8x12xf32>, tensor<2x4x12x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// A mask so small that it was imported as a literal.
// CHECK-LABEL: func.func @literal_mask
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}} {causal, scale = 2.500000e-01 : f64}
func.func @literal_mask(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %visible = train.constant dense<[[true, false, false, false, false, false, false, false], [true, true, false, false, false, false, false, false], [true, true, true, false, false, false, false, false], [true, true, true, true, false, false, false, false], [true, true, true, true, true, false, false, false], [true, true, true, true, true, true, false, false], [true, true, true, true, true, true, true, false], [true, true, true, true, true, true, true, true]]> : tensor<8x8xi1> : tensor<8x8xi1>
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %low = train.constant dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %mask = train.select %visible, %zero, %low : tensor<8x8xi1>, tensor<f32>, tensor<f32> -> tensor<8x8xf32>
  %s = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %nought = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %k0 = train.reshape %k : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
  %k1 = train.transpose %k0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %k2 = train.reshape %k1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  %qs = train.mul %q, %s : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %ks = train.mul %k2, %s : tensor<2x4x16x8xf32>, tensor<f32> -> tensor<2x4x16x8xf32>
  %scores = train.matmul %qs, %ks : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.add %scores, %mask : tensor<2x4x8x8xf32>, tensor<8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %nan = train.is_nan %p : tensor<2x4x8x8xf32> -> tensor<2x4x8x8xi1>
  %safe = train.select %nan, %nought, %p : tensor<2x4x8x8xi1>, tensor<f32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
  %out = train.matmul %safe, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// Heads are repeated before they move in front of positions.
// CHECK-LABEL: func.func @grouped_queries_before_transpose
// CHECK-DAG: %[[K:.*]] = train.transpose %{{.*}} [0, 2, 1, 3] : tensor<2x8x2x16xf32> -> tensor<2x2x8x16xf32>
// CHECK-DAG: %[[V:.*]] = train.transpose %{{.*}} [0, 2, 1, 3] : tensor<2x8x2x16xf32> -> tensor<2x2x8x16xf32>
// CHECK: train.attention %{{.*}}, %[[K]], %[[V]] {scale = 2.500000e-01 : f64} : tensor<2x4x8x16xf32>, tensor<2x2x8x16xf32>, tensor<2x2x8x16xf32>
// CHECK-NEXT: return
func.func @grouped_queries_before_transpose(%q: tensor<2x4x8x16xf32>, %kg: tensor<2x8x2x16xf32>, %vg: tensor<2x8x2x16xf32>) -> tensor<2x4x8x16xf32> {
  %kg0 = train.reshape %kg : tensor<2x8x2x16xf32> -> tensor<2x8x2x1x16xf32>
  %kg1 = train.broadcast %kg0 : tensor<2x8x2x1x16xf32> -> tensor<2x8x2x2x16xf32>
  %kg2 = train.reshape %kg1 : tensor<2x8x2x2x16xf32> -> tensor<2x8x4x16xf32>
  %k = train.transpose %kg2 [0, 2, 1, 3] : tensor<2x8x4x16xf32> -> tensor<2x4x8x16xf32>
  %vg0 = train.reshape %vg : tensor<2x8x2x16xf32> -> tensor<2x8x2x1x16xf32>
  %vg1 = train.broadcast %vg0 : tensor<2x8x2x1x16xf32> -> tensor<2x8x2x2x16xf32>
  %vg2 = train.reshape %vg1 : tensor<2x8x2x2x16xf32> -> tensor<2x8x4x16xf32>
  %v = train.transpose %vg2 [0, 2, 1, 3] : tensor<2x8x4x16xf32> -> tensor<2x4x8x16xf32>
  %s = train.constant dense<0.5> : tensor<f32> : tensor<f32>
  %nought = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %k0 = train.reshape %k : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
  %k1 = train.transpose %k0 [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %k2 = train.reshape %k1 : tensor<8x16x8xf32> -> tensor<2x4x16x8xf32>
  %qs = train.mul %q, %s : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %ks = train.mul %k2, %s : tensor<2x4x16x8xf32>, tensor<f32> -> tensor<2x4x16x8xf32>
  %scores = train.matmul %qs, %ks : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %scores : tensor<2x4x8x8xf32>
  %nan = train.is_nan %p : tensor<2x4x8x8xf32> -> tensor<2x4x8x8xi1>
  %safe = train.select %nan, %nought, %p : tensor<2x4x8x8xi1>, tensor<f32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
  %out = train.matmul %safe, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// Heads joined with samples (bmm): attention of one head.
// CHECK-LABEL: func.func @batched_products
// CHECK: %[[Q:.*]] = train.reshape %{{.*}} : tensor<8x8x16xf32> -> tensor<8x1x8x16xf32>
// CHECK: %[[Y:.*]], %{{.*}} = train.attention %[[Q]], %{{.*}}, %{{.*}} {causal, scale = 2.500000e-01 : f64} : tensor<8x1x8x16xf32>
// CHECK: train.reshape %[[Y]] : tensor<8x1x8x16xf32> -> tensor<8x8x16xf32>
func.func @batched_products(%q: tensor<8x8x16xf32>, %k: tensor<8x8x16xf32>, %v: tensor<8x8x16xf32>) -> tensor<8x8x16xf32> {
  %row = train.iota 1 {start = 0 : i64} : tensor<1x8x1xi64>
  %column = train.iota 2 : tensor<1x1x8xi64>
  %visible = train.compare le %column, %row : tensor<1x1x8xi64>, tensor<1x8x1xi64> -> tensor<1x8x8xi1>
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %low = train.constant dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %mask = train.select %visible, %zero, %low : tensor<1x8x8xi1>, tensor<f32>, tensor<f32> -> tensor<1x8x8xf32>
  %s = train.constant dense<0.25> : tensor<f32> : tensor<f32>
  %qs = train.mul %q, %s : tensor<8x8x16xf32>, tensor<f32> -> tensor<8x8x16xf32>
  %kt = train.transpose %k [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %raw = train.matmul %qs, %kt : tensor<8x8x16xf32>, tensor<8x16x8xf32> -> tensor<8x8x8xf32>
  %hidden = train.add %raw, %mask : tensor<8x8x8xf32>, tensor<1x8x8xf32> -> tensor<8x8x8xf32>
  %p = train.softmax %hidden : tensor<8x8x8xf32>
  %out = train.matmul %p, %v : tensor<8x8x8xf32>, tensor<8x8x16xf32> -> tensor<8x8x16xf32>
  return %out : tensor<8x8x16xf32>
}

// Keys that all samples share are not repeated.
// CHECK-LABEL: func.func @no_attention_across_samples
// CHECK-NOT: train.attention
// CHECK: return
func.func @no_attention_across_samples(%q: tensor<2x4x8x16xf32>, %k: tensor<1x4x8x16xf32>, %v: tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %raw = train.matmul %q, %k {transpose_rhs} : tensor<2x4x8x16xf32>, tensor<1x4x8x16xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %raw : tensor<2x4x8x8xf32>
  %out = train.matmul %p, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}
