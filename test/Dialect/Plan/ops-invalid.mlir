// RUN: zopt %s -split-input-file -verify-diagnostics

// expected-error @+1 {{'plan.target' op expects positive world_size, threads, micro_batch and accum_steps, but got 0, 2, 4, 1}}
plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 4 : i64, threads = 2 : i64, triple = "", world_size = 0 : i64}

// -----

// expected-error @+1 {{'plan.buffer' op starts at 100 with rank_stride 0, which are not multiples of 64}}
plan.buffer @x in @device at 100 bytes 4 for activations

// -----

// expected-error @+1 {{'plan.buffer' op starts at 0 with rank_stride 4, which are not multiples of 64}}
plan.buffer @x in @device at 0 bytes 4 for activations {rank_stride = 4 : i64}

// -----

// expected-error @+1 {{'plan.buffer' op expects bytes, offset and rank_stride of at least 0, but got -4, 0, 0}}
plan.buffer @x in @device at 0 bytes -4 for activations

// -----

// expected-error @+1 {{'plan.kernel' op expects two 'index' arguments last: the range of iterations to run}}
plan.kernel @x(%a: memref<4xf32>, %begin: index) {
  plan.return
}

// -----

// expected-error @+1 {{'plan.kernel' op expects arguments to be memrefs whose sizes, but for the first, are static, but got 'memref<4x?xf32>'}}
plan.kernel @x(%a: memref<4x?xf32>, %begin: index, %end: index) {
  plan.return
}

// -----

// expected-error @+1 {{'plan.kernel' op has results, but a kernel writes through its arguments}}
plan.kernel @x(%begin: index, %end: index) -> index {
  plan.return
}

// -----

// expected-error @+1 {{'plan.placed_bucket' op expects padded to be a multiple of slice, but got 256 and 100}}
plan.placed_bucket @b padded 256 slice 100 parameters @p {slots = []}

// -----

// expected-error @+1 {{'plan.placed_bucket' op expects gradient and gradient_type together}}
plan.placed_bucket @b padded 256 slice 128 parameters @p {gradient = @g, slots = []}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.launch' op has 2 buffers, but 1 offsets}}
  plan.launch @k [@a, @b] offsets [0] writes [1] extent 1 grain 1
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.launch' op writes buffer 2 of 2}}
  plan.launch @k [@a, @b] offsets [] writes [2] extent 1 grain 1
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.launch' op expects an extent of at least 0 and a grain of at least 1, but got 1 and 0}}
  plan.launch @k [@a, @b] offsets [] writes [1] extent 1 grain 0
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.matmul' op has sizes that do not agree: #plan.operand<f32, [4, 5], [5, 1]> x #plan.operand<f32, [4, 4], [4, 1]> -> #plan.operand<f32, [4, 4], [4, 1]>}}
  plan.matmul @a x @b -> @c {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [4, 5], [5, 1]>, out_operand = #plan.operand<f32, [4, 4], [4, 1]>, rhs_operand = #plan.operand<f32, [4, 4], [4, 1]>, scale = 1.0 : f64}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.matmul' op expects 4 byte offsets (lhs, rhs, out, bias), but got 2}}
  plan.matmul @a x @b -> @c {byte_offsets = array<i64: 0, 0>, lhs_operand = #plan.operand<f32, [4, 4], [4, 1]>, out_operand = #plan.operand<f32, [4, 4], [4, 1]>, rhs_operand = #plan.operand<f32, [4, 4], [4, 1]>, scale = 1.0 : f64}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.matmul' op has batch sizes that do not broadcast: #plan.operand<f32, [3, 4, 4], [16, 4, 1]> x #plan.operand<f32, [2, 4, 4], [16, 4, 1]> -> #plan.operand<f32, [2, 4, 4], [16, 4, 1]>}}
  plan.matmul @a x @b -> @c {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [3, 4, 4], [16, 4, 1]>, out_operand = #plan.operand<f32, [2, 4, 4], [16, 4, 1]>, rhs_operand = #plan.operand<f32, [2, 4, 4], [16, 4, 1]>, scale = 1.0 : f64}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.copy' op expects bytes and offsets of at least 0, but got 4, -4, 0}}
  plan.copy @a at -4 to @b at 0 bytes 4
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.zero' op expects bytes and an offset of at least 0, but got -1, 0}}
  plan.zero @a at 0 bytes -1
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.all_gather' op expects positive bytes_per_rank, but got 0}}
  plan.all_gather 0 @a into @b bytes_per_rank 0 label "x"
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.reduce_scatter' op expects float types, but got 'i32' and 'f32'}}
  plan.reduce_scatter 0 @a into @b workspace @c elements_per_rank 128 i32 -> f32 label "x"
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.all_reduce' op expects positive elements_per_rank, but got 0}}
  plan.all_reduce 0 @a workspace @b elements_per_rank 0 f32 label "x"
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.gradient_norm' op expects one kernel a bucket, but got 0 for 1}}
  plan.gradient_norm [@a] by [] workspace @b into @c f32
}

// -----

// expected-error @+1 {{'plan.sequence' op holds 'arith.constant', which is not a command}}
plan.sequence @micro_step {
  %x = arith.constant 1 : index
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.matmul' op expects aux and aux_operand where there is an epilogue, and nowhere else}}
  plan.matmul @a x @b -> @c {byte_offsets = array<i64: 0, 0, 0, 0>, epilogue = 1 : i32, lhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, out_operand = #plan.operand<bf16, [4, 4], [4, 1]>, rhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, scale = 1.0 : f64}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.matmul' op expects bias_gradient and its kind together}}
  plan.matmul @a x @b -> @c {bias_gradient = @d, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0>, lhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, out_operand = #plan.operand<bf16, [4, 4], [4, 1]>, rhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, scale = 1.0 : f64}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.matmul' op expects 7 byte offsets (lhs, rhs, out, bias, aux, bias_gradient, addend), but got 4}}
  plan.matmul @a x @b -> @c {bias_gradient = @d, bias_gradient_kind = 1 : i32, byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, out_operand = #plan.operand<bf16, [4, 4], [4, 1]>, rhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, scale = 1.0 : f64}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.attention' op expects 5 buffers, layouts and offsets, but got 5, 4 and 5}}
  plan.attention [@a, @a, @a, @b, @c] scale 1.0 {byte_offsets = array<i64: 0, 0, 0, 0, 0>, tensors = [#plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>, #plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>, #plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>, #plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>]}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.attention' op has query, key and value that do not agree}}
  plan.attention [@a, @a, @a, @b, @c] scale 1.0 {byte_offsets = array<i64: 0, 0, 0, 0, 0>, tensors = [#plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>, #plan.operand<bf16, [1, 3, 8, 16], [384, 128, 16, 1]>, #plan.operand<bf16, [1, 3, 8, 16], [384, 128, 16, 1]>, #plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>, #plan.operand<f32, [1, 4, 8, 1], [32, 8, 1, 1]>]}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.attention_grad' op expects float layouts of four axes, but got #plan.operand<bf16, [4, 4], [4, 1]>}}
  plan.attention_grad [@a, @a, @a, @b, @c, @d, @e, @f, @g] scale 1.0 {byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0, 0, 0>, tensors = [#plan.operand<bf16, [4, 4], [4, 1]>, #plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>, #plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>, #plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>, #plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>, #plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>, #plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>, #plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>, #plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>]}
}

// -----

// expected-error @+1 {{'plan.kernel' op expects resident_blocks of together at most 2048 threads, but got 9 of 256}}
plan.kernel @k(%a: memref<16xf32>, %low: index, %high: index) attributes {block_threads = 256 : i64, resident_blocks = 9 : i64} {
  plan.return
}

// -----

// expected-error @+1 {{'plan.kernel' op expects block_threads to be a multiple of 32 up to 1024 and positive block_iterations, but got 100 and 1}}
plan.kernel @k(%a: memref<16xf32>, %low: index, %high: index) attributes {block_threads = 100 : i64} {
  plan.return
}

// -----

// expected-error @+1 {{'plan.kernel' op expects arguments to be memrefs whose sizes, but for the first, are static, but got 'f32'}}
plan.kernel @k(%a: memref<16xf32>, %s: f32, %low: index, %high: index) {
  plan.return
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.matmul' op has an addend beside an epilogue or a bias gradient}}
  plan.matmul @a x @b -> @c {addend = @d, aux = @e, aux_operand = #plan.operand<bf16, [4, 4], [4, 1]>, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0>, epilogue = 1 : i32, lhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, out_operand = #plan.operand<bf16, [4, 4], [4, 1]>, rhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, scale = 1.0 : f64}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.matmul' op has an addend beside an epilogue or a bias gradient}}
  plan.matmul @a x @b -> @c {addend = @d, bias_gradient = @e, bias_gradient_kind = 1 : i32, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0>, lhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, out_operand = #plan.operand<bf16, [4, 4], [4, 1]>, rhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, scale = 1.0 : f64}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.matmul' op expects 7 byte offsets (lhs, rhs, out, bias, aux, bias_gradient, addend), but got 4}}
  plan.matmul @a x @b -> @c {addend = @d, byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, out_operand = #plan.operand<bf16, [4, 4], [4, 1]>, rhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, scale = 1.0 : f64}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.gradient_norm' op expects words and finish together}}
  plan.gradient_norm [@a] by [@k] workspace @b into @c f32 {words = @w}
}

// -----

plan.sequence @apply_step {
  // expected-error @+1 {{'plan.parameter_norms' op expects words, accumulate and finish together}}
  plan.parameter_norms @bucket by @k workspace @b into @c scale @s lr @s step @s finite @s decays [0.0] {accumulate = @k, finish = @k}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.gradient_norm' op expects words and finish together}}
  plan.gradient_norm [@a] by [@k] workspace @b into @c f32 {finish = @k}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.matmul' op expects aux to have the shape of out, but got #plan.operand<bf16, [4, 8], [8, 1]> and #plan.operand<bf16, [4, 4], [4, 1]>}}
  plan.matmul @a x @b -> @c {aux = @e, aux_operand = #plan.operand<bf16, [4, 8], [8, 1]>, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0>, epilogue = 1 : i32, lhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, out_operand = #plan.operand<bf16, [4, 4], [4, 1]>, rhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, scale = 1.0 : f64}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.matmul' op expects bias and bias_operand together}}
  plan.matmul @a x @b -> @c {bias = @d, byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [4, 4], [4, 1]>, out_operand = #plan.operand<f32, [4, 4], [4, 1]>, rhs_operand = #plan.operand<f32, [4, 4], [4, 1]>, scale = 1.0 : f64}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.matmul' op expects operands with at least two axes and one stride an axis, but got #plan.operand<f32, [4], [1]>}}
  plan.matmul @a x @b -> @c {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [4], [1]>, out_operand = #plan.operand<f32, [4, 4], [4, 1]>, rhs_operand = #plan.operand<f32, [4, 4], [4, 1]>, scale = 1.0 : f64}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.matmul' op expects float operands, but got #plan.operand<i32, [4, 4], [4, 1]>}}
  plan.matmul @a x @b -> @c {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<i32, [4, 4], [4, 1]>, out_operand = #plan.operand<f32, [4, 4], [4, 1]>, rhs_operand = #plan.operand<f32, [4, 4], [4, 1]>, scale = 1.0 : f64}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.matmul' op expects operands of one rank, but got 3, 2 and 2}}
  plan.matmul @a x @b -> @c {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [1, 4, 4], [16, 4, 1]>, out_operand = #plan.operand<f32, [4, 4], [4, 1]>, rhs_operand = #plan.operand<f32, [4, 4], [4, 1]>, scale = 1.0 : f64}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.attention' op has an output that does not agree with query and value: #plan.operand<bf16, [1, 4, 8, 8], [256, 64, 8, 1]>}}
  plan.attention [@a, @a, @a, @b, @c] scale 1.0 {byte_offsets = array<i64: 0, 0, 0, 0, 0>, tensors = [#plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>, #plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>, #plan.operand<bf16, [1, 4, 8, 16], [512, 128, 16, 1]>, #plan.operand<bf16, [1, 4, 8, 8], [256, 64, 8, 1]>, #plan.operand<f32, [1, 4, 8, 1], [32, 8, 1, 1]>]}
}

// -----

plan.sequence @micro_step {
  // expected-error @+1 {{'plan.all_reduce' op expects a float type, but got 'i32'}}
  plan.all_reduce 0 @a workspace @b elements_per_rank 128 i32 label "x"
}

// -----

// expected-error @+1 {{'plan.kernel' op has no body}}
plan.kernel @x(memref<4xf32>, index, index)
