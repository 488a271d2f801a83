// RUN: zopt %s --zopt-raise-linear --zopt-raise-rms-norm --zopt-raise-attention | FileCheck %s

// ALiBi (MPT): slopes times positions are added, then later positions are hidden by a number: both are one mask, and no gradient reaches it.
// CHECK-LABEL: func.func @alibi
// CHECK: %[[B:.*]] = train.mul %{{.*}} -> tensor<4x1x8xf32>
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}} mask %{{.*}} : tensor<1x4x8x8xf32> {scale = 2.500000e-01 : f64}
// CHECK-NOT: train.softmax
func.func @alibi(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %slopes = train.constant dense<[[[0.5]], [[0.25]], [[0.125]], [[0.0625]]]> : tensor<4x1x1xf32> : tensor<4x1x1xf32>
  %positions = train.iota 2 {start = -7 : i64} : tensor<1x1x8xf32>
  %bias = train.mul %slopes, %positions : tensor<4x1x1xf32>, tensor<1x1x8xf32> -> tensor<4x1x8xf32>
  %row = train.iota 2 : tensor<1x1x8x1xi64>
  %column = train.iota 3 : tensor<1x1x1x8xi64>
  %later = train.compare gt %column, %row : tensor<1x1x1x8xi64>, tensor<1x1x8x1xi64> -> tensor<1x1x8x8xi1>
  %low = train.constant dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %s = train.constant dense<0.25> : tensor<f32> : tensor<f32>
  %kt = train.transpose %k [0, 1, 3, 2] : tensor<2x4x8x16xf32> -> tensor<2x4x16x8xf32>
  %raw = train.matmul %q, %kt : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %scores = train.mul %raw, %s : tensor<2x4x8x8xf32>, tensor<f32> -> tensor<2x4x8x8xf32>
  %biased = train.add %scores, %bias : tensor<2x4x8x8xf32>, tensor<4x1x8xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.select %later, %low, %biased : tensor<1x1x8x8xi1>, tensor<f32>, tensor<2x4x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %out = train.matmul %p, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// Gemma 2 caps scores by tanh: train.attention has no such thing, so the expansion stays, and is right.
// CHECK-LABEL: func.func @no_attention_of_capped_scores
// CHECK-NOT: train.attention
// CHECK: train.tanh
// CHECK: train.softmax
// CHECK: return
func.func @no_attention_of_capped_scores(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %cap = train.constant dense<5.000000e+01> : tensor<f32> : tensor<f32>
  %kt = train.transpose %k [0, 1, 3, 2] : tensor<2x4x8x16xf32> -> tensor<2x4x16x8xf32>
  %raw = train.matmul %q, %kt : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %small = train.div %raw, %cap : tensor<2x4x8x8xf32>, tensor<f32> -> tensor<2x4x8x8xf32>
  %bounded = train.tanh %small : tensor<2x4x8x8xf32>
  %scores = train.mul %bounded, %cap : tensor<2x4x8x8xf32>, tensor<f32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %scores : tensor<2x4x8x8xf32>
  %out = train.matmul %p, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// Cross attention (T5, BART, Whisper): more keys than queries and a mask of keys.
// CHECK-LABEL: func.func @cross
// CHECK-SAME: (%[[Q:.*]]: tensor<2x4x6x16xf32>, %[[K:.*]]: tensor<2x4x8x16xf32>, %[[V:.*]]: tensor<2x4x8x16xf32>, %[[M:.*]]: tensor<2x1x1x8xi1>)
// CHECK-NEXT: %{{.*}}, %{{.*}} = train.attention %[[Q]], %[[K]], %[[V]] mask %[[M]] : tensor<2x1x1x8xi1> {scale = 1.000000e+00 : f64}
// CHECK-NEXT: return
func.func @cross(%q: tensor<2x4x6x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>, %keys: tensor<2x1x1x8xi1>) -> tensor<2x4x6x16xf32> {
  %low = train.constant dense<0xFF800000> : tensor<f32> : tensor<f32>
  %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
  %mask = train.select %keys, %zero, %low : tensor<2x1x1x8xi1>, tensor<f32>, tensor<f32> -> tensor<2x1x1x8xf32>
  %kt = train.transpose %k [0, 1, 3, 2] : tensor<2x4x8x16xf32> -> tensor<2x4x16x8xf32>
  %scores = train.matmul %q, %kt : tensor<2x4x6x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x6x8xf32>
  %hidden = train.add %scores, %mask : tensor<2x4x6x8xf32>, tensor<2x1x1x8xf32> -> tensor<2x4x6x8xf32>
  %p = train.softmax %hidden : tensor<2x4x6x8xf32>
  %out = train.matmul %p, %v : tensor<2x4x6x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x6x16xf32>
  return %out : tensor<2x4x6x16xf32>
}

// Qwen 3: queries and keys are normalized over their heads' dimension, and scaled at the product.
// CHECK-LABEL: func.func @query_key_norm
// CHECK-COUNT-2: train.rms_norm
// CHECK: train.attention
func.func @query_key_norm(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x8x16xf32>, %v: tensor<2x4x8x16xf32>, %gq: tensor<16xf32>, %gk: tensor<16xf32>) -> tensor<2x4x8x16xf32> {
  %two = train.constant dense<2.0> : tensor<f32> : tensor<f32>
  %eps = train.constant dense<1.0e-6> : tensor<f32> : tensor<f32>
  %q2 = train.pow %q, %two : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %qm = train.reduce_mean %q2 [3] : tensor<2x4x8x16xf32> -> tensor<2x4x8xf32>
  %qk = train.reshape %qm : tensor<2x4x8xf32> -> tensor<2x4x8x1xf32>
  %qe = train.add %qk, %eps : tensor<2x4x8x1xf32>, tensor<f32> -> tensor<2x4x8x1xf32>
  %qs = train.sqrt %qe : tensor<2x4x8x1xf32>
  %qr = train.reciprocal %qs : tensor<2x4x8x1xf32>
  %qn = train.mul %q, %qr : tensor<2x4x8x16xf32>, tensor<2x4x8x1xf32> -> tensor<2x4x8x16xf32>
  %query = train.mul %gq, %qn : tensor<16xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  %k2 = train.pow %k, %two : tensor<2x4x8x16xf32>, tensor<f32> -> tensor<2x4x8x16xf32>
  %km = train.reduce_mean %k2 [3] : tensor<2x4x8x16xf32> -> tensor<2x4x8xf32>
  %kk = train.reshape %km : tensor<2x4x8xf32> -> tensor<2x4x8x1xf32>
  %ke = train.add %kk, %eps : tensor<2x4x8x1xf32>, tensor<f32> -> tensor<2x4x8x1xf32>
  %ks = train.sqrt %ke : tensor<2x4x8x1xf32>
  %kr = train.reciprocal %ks : tensor<2x4x8x1xf32>
  %kn = train.mul %k, %kr : tensor<2x4x8x16xf32>, tensor<2x4x8x1xf32> -> tensor<2x4x8x16xf32>
  %key = train.mul %gk, %kn : tensor<16xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  %kt = train.transpose %key [0, 1, 3, 2] : tensor<2x4x8x16xf32> -> tensor<2x4x16x8xf32>
  %raw = train.matmul %query, %kt : tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %raw : tensor<2x4x8x8xf32>
  %out = train.matmul %p, %v : tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// Falcon: all query heads read one key head.
// CHECK-LABEL: func.func @multi_query
// CHECK-SAME: (%[[Q:.*]]: tensor<2x4x8x16xf32>, %[[K:.*]]: tensor<2x1x8x16xf32>, %[[V:.*]]: tensor<2x1x8x16xf32>)
// CHECK-NEXT: %{{.*}}, %{{.*}} = train.attention %[[Q]], %[[K]], %[[V]] {scale = 1.000000e+00 : f64} : tensor<2x4x8x16xf32>, tensor<2x1x8x16xf32>, tensor<2x1x8x16xf32> -> tensor<2x4x8x16xf32>
// CHECK-NEXT: return
func.func @multi_query(%q: tensor<2x4x8x16xf32>, %k: tensor<2x1x8x16xf32>, %v: tensor<2x1x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %kt = train.transpose %k [0, 1, 3, 2] : tensor<2x1x8x16xf32> -> tensor<2x1x16x8xf32>
  %scores = train.matmul %q, %kt : tensor<2x4x8x16xf32>, tensor<2x1x16x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %scores : tensor<2x4x8x8xf32>
  %out = train.matmul %p, %v : tensor<2x4x8x8xf32>, tensor<2x1x8x16xf32> -> tensor<2x4x8x16xf32>
  return %out : tensor<2x4x8x16xf32>
}

// BLOOM: products of batches of matrices, ALiBi added to them, and a mask added to heads of samples.
// CHECK-LABEL: func.func @joined_heads
// CHECK-SAME: (%[[Q:.*]]: tensor<8x8x16xf32>, %[[K:.*]]: tensor<8x8x16xf32>, %[[V:.*]]: tensor<8x8x16xf32>, %[[B:.*]]: tensor<8x1x8xf32>, %[[M:.*]]: tensor<2x1x8x8xf32>)
// CHECK-DAG: %[[B4:.*]] = train.reshape %[[B]] : tensor<8x1x8xf32> -> tensor<2x4x1x8xf32>
// CHECK-DAG: %[[S:.*]] = train.add %[[B4]], %[[M]] : {{.*}} -> tensor<2x4x8x8xf32>
// CHECK-DAG: %[[Q4:.*]] = train.reshape %[[Q]] : tensor<8x8x16xf32> -> tensor<2x4x8x16xf32>
// CHECK-DAG: %[[K4:.*]] = train.reshape %[[K]] : tensor<8x8x16xf32> -> tensor<2x4x8x16xf32>
// CHECK-DAG: %[[V4:.*]] = train.reshape %[[V]] : tensor<8x8x16xf32> -> tensor<2x4x8x16xf32>
// CHECK: %[[Y:.*]], %{{.*}} = train.attention %[[Q4]], %[[K4]], %[[V4]] mask %[[S]] : tensor<2x4x8x8xf32> {scale = 1.000000e+00 : f64}
// CHECK: train.reshape %[[Y]] : tensor<2x4x8x16xf32> -> tensor<8x8x16xf32>
func.func @joined_heads(%q: tensor<8x8x16xf32>, %k: tensor<8x8x16xf32>, %v: tensor<8x8x16xf32>, %bias: tensor<8x1x8xf32>, %mask: tensor<2x1x8x8xf32>) -> tensor<8x8x16xf32> {
  %kt = train.transpose %k [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %raw = train.matmul %q, %kt : tensor<8x8x16xf32>, tensor<8x16x8xf32> -> tensor<8x8x8xf32>
  %biased = train.add %raw, %bias : tensor<8x8x8xf32>, tensor<8x1x8xf32> -> tensor<8x8x8xf32>
  %split = train.reshape %biased : tensor<8x8x8xf32> -> tensor<2x4x8x8xf32>
  %hidden = train.add %split, %mask : tensor<2x4x8x8xf32>, tensor<2x1x8x8xf32> -> tensor<2x4x8x8xf32>
  %p = train.softmax %hidden : tensor<2x4x8x8xf32>
  %joined = train.reshape %p : tensor<2x4x8x8xf32> -> tensor<8x8x8xf32>
  %out = train.matmul %joined, %v : tensor<8x8x8xf32>, tensor<8x8x16xf32> -> tensor<8x8x16xf32>
  return %out : tensor<8x8x16xf32>
}

// Heads that are split otherwise than they are joined again are other heads.
// CHECK-LABEL: func.func @no_attention_of_other_heads
// CHECK-NOT: train.attention
// CHECK: return
func.func @no_attention_of_other_heads(%q: tensor<8x8x16xf32>, %k: tensor<8x8x16xf32>, %v: tensor<4x16x16xf32>) -> tensor<4x8x16xf32> {
  %kt = train.transpose %k [0, 2, 1] : tensor<8x8x16xf32> -> tensor<8x16x8xf32>
  %raw = train.matmul %q, %kt : tensor<8x8x16xf32>, tensor<8x16x8xf32> -> tensor<8x8x8xf32>
  %split = train.reshape %raw : tensor<8x8x8xf32> -> tensor<2x2x8x16xf32>
  %p = train.softmax %split : tensor<2x2x8x16xf32>
  %joined = train.reshape %p : tensor<2x2x8x16xf32> -> tensor<4x8x16xf32>
  %out = train.matmul %joined, %v : tensor<4x8x16xf32>, tensor<4x16x16xf32> -> tensor<4x8x16xf32>
  return %out : tensor<4x8x16xf32>
}
