// RUN: zopt %s | zopt | FileCheck %s

// Every op parses, prints, and parses again as what it was.

// CHECK: plan.target "cpu" {accum_steps = 1 : i64, cpu = "generic", features = "", libraries = ["onednn 2.6.3"], micro_batch = 4 : i64, threads = 2 : i64, triple = "x86_64", world_size = 2 : i64}
plan.target "cpu" {accum_steps = 1 : i64, cpu = "generic", features = "", libraries = ["onednn 2.6.3"], micro_batch = 4 : i64, threads = 2 : i64, triple = "x86_64", world_size = 2 : i64}
// CHECK: plan.arena @device device 4096
plan.arena @device device 4096
// CHECK: plan.buffer @whole in @device at 0 bytes 1024 for parameters {persistent}
plan.buffer @whole in @device at 0 bytes 1024 for parameters {persistent}
// CHECK: plan.buffer @slice in @device at 0 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
plan.buffer @slice in @device at 0 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
// CHECK: plan.buffer @t0 in @device at 1024 bytes 64 for activations
plan.buffer @t0 in @device at 1024 bytes 64 for activations
plan.buffer @t1 in @device at 2048 bytes 1024 for workspace
// CHECK: plan.input @x input from @t0 : tensor<4x4xf32>
plan.input @x input from @t0 : tensor<4x4xf32>
// CHECK: plan.input @labels label from @t0 : tensor<4xi64> {ignore_index = -100 : i64, limit = 10 : i64}
plan.input @labels label from @t0 : tensor<4xi64> {ignore_index = -100 : i64, limit = 10 : i64}
// CHECK: plan.output @y from @t0 : tensor<4x4xf32>
plan.output @y from @t0 : tensor<4x4xf32>
// CHECK: plan.placed_bucket @bucket0 padded 256 slice 128 parameters @whole {gradient = @slice, gradient_type = f32, master = @slice, slots = [@slice]}
plan.placed_bucket @bucket0 padded 256 slice 128 parameters @whole {gradient = @slice, gradient_type = f32, master = @slice, slots = [@slice]}
// CHECK: plan.placed_state @state in @t0
plan.placed_state @state in @t0
// CHECK: plan.kernel @copy(%{{.*}}: memref<16xf32>, %{{.*}}: memref<16xf32>, %{{.*}}: index, %{{.*}}: index) {
plan.kernel @copy(%a: memref<16xf32>, %b: memref<16xf32>, %begin: index, %end: index) {
  %one = arith.constant 1 : index
  scf.for %i = %begin to %end step %one {
    %x = memref.load %a[%i] : memref<16xf32>
    memref.store %x, %b[%i] : memref<16xf32>
  }
  // CHECK: plan.return
  plan.return
}
// CHECK: plan.sequence @micro_step {
plan.sequence @micro_step {
  // CHECK: plan.zero @t0 at 0 bytes 64 {first_micro_step}
  plan.zero @t0 at 0 bytes 64 {first_micro_step}
  // CHECK: plan.launch @copy [@t0, @t1] offsets [0, 64] writes [1] extent 16 grain 8
  plan.launch @copy [@t0, @t1] offsets [0, 64] writes [1] extent 16 grain 8
  // CHECK: plan.matmul @t0 x @t0 -> @t1 {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [4, 4], [4, 1]>, out_operand = #plan.operand<f32, [4, 4], [4, 1]>, rhs_operand = #plan.operand<f32, [4, 4], [1, 4]>, scale = 1.000000e+00 : f64}
  plan.matmul @t0 x @t0 -> @t1 {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [4, 4], [4, 1]>, out_operand = #plan.operand<f32, [4, 4], [4, 1]>, rhs_operand = #plan.operand<f32, [4, 4], [1, 4]>, scale = 1.0 : f64}
  // CHECK: plan.copy @t1 at 0 to @t0 at 0 bytes 64
  plan.copy @t1 at 0 to @t0 at 0 bytes 64
  // CHECK: plan.all_gather 0 @slice into @whole bytes_per_rank 512 label "publish bucket0"
  plan.all_gather 0 @slice into @whole bytes_per_rank 512 label "publish bucket0"
  // CHECK: plan.wait 0
  plan.wait 0
  // CHECK: plan.reduce_scatter 1 @whole into @slice workspace @t1 elements_per_rank 128 f32 -> f32 label "reduce bucket0" {accumulate}
  plan.reduce_scatter 1 @whole into @slice workspace @t1 elements_per_rank 128 f32 -> f32 label "reduce bucket0" {accumulate}
  // CHECK: plan.all_reduce 2 @whole workspace @t1 elements_per_rank 128 f32 label "reduce bucket0"
  plan.all_reduce 2 @whole workspace @t1 elements_per_rank 128 f32 label "reduce bucket0"
  // CHECK: plan.all_reduce_scalars @t0 into @t1 count 2 f32 label "sum scalars"
  plan.all_reduce_scalars @t0 into @t1 count 2 f32 label "sum scalars"
  // CHECK: plan.gradient_norm [@bucket0] by [@copy] workspace @t1 into @t0 f32
  plan.gradient_norm [@bucket0] by [@copy] workspace @t1 into @t0 f32
  // CHECK: plan.parameter_norms @bucket0 by @copy workspace @t1 into @t2 scale @t0 lr @t0 step @t0 finite @t0 decays [1.000000e-02] rates [2.000000e+00] {gradient = @t1}
  plan.parameter_norms @bucket0 by @copy workspace @t1 into @t2 scale @t0 lr @t0 step @t0 finite @t0 decays [0.01] rates [2.0] {gradient = @t1}
  // CHECK: plan.update @bucket0 by @copy scale @t0 lr @t0 step @t0 finite @t0 decays [1.000000e-02] rates [2.000000e+00] {norms = @t2}
  plan.update @bucket0 by @copy scale @t0 lr @t0 step @t0 finite @t0 decays [1.000000e-02] rates [2.0] {norms = @t2}
  // CHECK: plan.update @bucket0 by @copy scale @t0 lr @t0 step @t0 finite @t0 decays [1.000000e-02] {gradient = @t1}
  plan.update @bucket0 by @copy scale @t0 lr @t0 step @t0 finite @t0 decays [1.000000e-02] {gradient = @t1}
  // CHECK: plan.matmul @t0 x @t0 -> @t1 {aux = @t2,{{.*}} bias_gradient = @t3, bias_gradient_kind = 3 : i32, byte_offsets = array<i64: 0, 0, 0, 0, 64, 0, 0>, epilogue = 2 : i32
  plan.matmul @t0 x @t0 -> @t1 {aux = @t2, aux_operand = #plan.operand<bf16, [4, 4], [4, 1]>, bias_gradient = @t3, bias_gradient_kind = 3 : i32, byte_offsets = array<i64: 0, 0, 0, 0, 64, 0, 0>, epilogue = 2 : i32, lhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, out_operand = #plan.operand<bf16, [4, 4], [4, 1]>, rhs_operand = #plan.operand<bf16, [4, 4], [1, 4]>, scale = 1.0 : f64}
  // CHECK: plan.matmul @t0 x @t0 -> @t1 {addend = @t2, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 64>, lhs_operand
  plan.matmul @t0 x @t0 -> @t1 {addend = @t2, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 64>, lhs_operand = #plan.operand<bf16, [4, 4], [4, 1]>, out_operand = #plan.operand<bf16, [4, 4], [4, 1]>, rhs_operand = #plan.operand<bf16, [4, 4], [1, 4]>, scale = 1.0 : f64}
  // CHECK: plan.gradient_norm [@bucket0] by [@copy] workspace @t1 into @t0 f32 {finish = @copy, words = @t2}
  plan.gradient_norm [@bucket0] by [@copy] workspace @t1 into @t0 f32 {finish = @copy, words = @t2}
  // CHECK: plan.attention [@t0, @t0, @t0, @t1, @t2] scale 1.250000e-01 {byte_offsets = array<i64: 0, 128, 256, 0, 0>, causal, scratch = @t3
  plan.attention [@t0, @t0, @t0, @t1, @t2] scale 0.125 {byte_offsets = array<i64: 0, 128, 256, 0, 0>, causal, scratch = @t3, tensors = [#plan.operand<bf16, [1, 4, 8, 16], [512, 16, 64, 1]>, #plan.operand<bf16, [1, 2, 8, 16], [256, 16, 32, 1]>, #plan.operand<bf16, [1, 2, 8, 16], [256, 16, 32, 1]>, #plan.operand<bf16, [1, 4, 8, 16], [512, 16, 64, 1]>, #plan.operand<f32, [1, 4, 8, 1], [32, 8, 1, 1]>]}
  // CHECK: plan.attention_grad [@t0, @t0, @t0, @t1, @t2, @t3, @t4, @t5, @t6] scale 1.000000e+00
  plan.attention_grad [@t0, @t0, @t0, @t1, @t2, @t3, @t4, @t5, @t6] scale 1.0 {byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0, 0, 0>, tensors = [#plan.operand<bf16, [1, 1, 8, 16], [128, 128, 16, 1]>, #plan.operand<bf16, [1, 1, 8, 16], [128, 128, 16, 1]>, #plan.operand<bf16, [1, 1, 8, 16], [128, 128, 16, 1]>, #plan.operand<bf16, [1, 1, 8, 16], [128, 128, 16, 1]>, #plan.operand<f32, [1, 1, 8, 1], [8, 8, 1, 1]>, #plan.operand<bf16, [1, 1, 8, 16], [128, 128, 16, 1]>, #plan.operand<bf16, [1, 1, 8, 16], [128, 128, 16, 1]>, #plan.operand<bf16, [1, 1, 8, 16], [128, 128, 16, 1]>, #plan.operand<bf16, [1, 1, 8, 16], [128, 128, 16, 1]>]}
}
// A kernel for CUDA: its block, and a scalar by value.
// CHECK: plan.kernel @scale(%{{.*}}: memref<16xf32>, %{{.*}}: f32, %{{.*}}: index, %{{.*}}: index) attributes {block_iterations = 4 : i64, block_threads = 128 : i64}
plan.kernel @scale(%a: memref<16xf32>, %s: f32, %low: index, %high: index) attributes {block_iterations = 4 : i64, block_threads = 128 : i64} {
  plan.return
}
