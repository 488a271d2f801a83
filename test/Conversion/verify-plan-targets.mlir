// What a command may be depends on the target. Lines that begin with letters are of those cases alone.

// Sound on the CPU.
// RUN: sed -E 's@^//[A-O]*A[A-O]* @@;/^..[A-O]/d' %s | zopt - --zopt-verify-plan -verify-diagnostics
// Sound on a GPU: an epilogue, attention, a product that is added to what it is written over.
// RUN: sed -E 's@^//[A-O]*B[A-O]* @@;/^..[A-O]/d' %s | zopt - --zopt-verify-plan -verify-diagnostics
// An epilogue on the CPU.
// RUN: sed -E 's@^//[A-O]*C[A-O]* @@;/^..[A-O]/d' %s | zopt - --zopt-verify-plan -verify-diagnostics
// An addend on the CPU: it would not be added.
// RUN: sed -E 's@^//[A-O]*D[A-O]* @@;/^..[A-O]/d' %s | zopt - --zopt-verify-plan -verify-diagnostics
// A bias gradient on the CPU.
// RUN: sed -E 's@^//[A-O]*E[A-O]* @@;/^..[A-O]/d' %s | zopt - --zopt-verify-plan -verify-diagnostics
// A product over an operand.
// RUN: sed -E 's@^//[A-O]*F[A-O]* @@;/^..[A-O]/d' %s | zopt - --zopt-verify-plan -verify-diagnostics
// A product added to what it is written over, which is a factor of it too.
// RUN: sed -E 's@^//[A-O]*G[A-O]* @@;/^..[A-O]/d' %s | zopt - --zopt-verify-plan -verify-diagnostics
// Attention on the CPU.
// RUN: sed -E 's@^//[A-O]*H[A-O]* @@;/^..[A-O]/d' %s | zopt - --zopt-verify-plan -verify-diagnostics
// Attention's gradient on the CPU.
// RUN: sed -E 's@^//[A-O]*I[A-O]* @@;/^..[A-O]/d' %s | zopt - --zopt-verify-plan -verify-diagnostics
// A norm without words on a GPU.
// RUN: sed -E 's@^//[A-O]*J[A-O]* @@;/^..[A-O]/d' %s | zopt - --zopt-verify-plan -verify-diagnostics
// A norm with words on the CPU.
// RUN: sed -E 's@^//[A-O]*K[A-O]* @@;/^..[A-O]/d' %s | zopt - --zopt-verify-plan -verify-diagnostics
// Words for one sum instead of two.
// RUN: sed -E 's@^//[A-O]*L[A-O]* @@;/^..[A-O]/d' %s | zopt - --zopt-verify-plan -verify-diagnostics
// The decay in memory on a GPU.
// RUN: sed -E 's@^//[A-O]*M[A-O]* @@;/^..[A-O]/d' %s | zopt - --zopt-verify-plan -verify-diagnostics
// The decay by value on the CPU.
// RUN: sed -E 's@^//[A-O]*N[A-O]* @@;/^..[A-O]/d' %s | zopt - --zopt-verify-plan -verify-diagnostics
// A list of gradients that other buffers may overwrite.
// RUN: sed -E 's@^//[A-O]*O[A-O]* @@;/^..[A-O]/d' %s | zopt - --zopt-verify-plan -verify-diagnostics

module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
//ACDEHIKN   plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
//BFGJLMO   plan.target "cuda" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
  plan.placed_bucket @bucket0 padded 256 slice 256 parameters @w.value {gradient = @w.gradient, gradient_type = f32, gradient_whole, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 10240
  plan.buffer @w.value in @device at 0 bytes 1024 for parameters {persistent}
  plan.buffer @w.gradient in @device at 1024 bytes 1024 for gradients {persistent}
  plan.buffer @s.value in @device at 2048 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 2112 bytes 1024 for inputs {persistent}
  plan.buffer @y in @device at 3136 bytes 1024 for activations
  plan.buffer @z in @device at 4160 bytes 1024 for activations
//ACDEHIKN   plan.buffer @blocks in @device at 5184 bytes 16 for workspace
//BFGJLM   plan.buffer @blocks in @device at 5184 bytes 24 for workspace {persistent}
//O   plan.buffer @blocks in @device at 5184 bytes 24 for workspace
  plan.buffer @norm in @device at 5248 bytes 4 for activations
//ACDEHIKN   plan.buffer @words in @device at 5312 bytes 1200 for workspace
//BFGJMO   plan.buffer @words in @device at 5312 bytes 1200 for workspace {persistent}
//L   plan.buffer @words in @device at 5312 bytes 600 for workspace
  plan.buffer @lse in @device at 6592 bytes 64 for activations
//ACDEHIKN   plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
//BFGJLMO   plan.kernel @squares(%g: memref<?xf32>, %l: memref<3xi64>, %w: memref<75xi64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @finish(%w: memref<150xi64>, %n: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
//ACDEHIKM   plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
//BFGJLNO   plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: f32, %begin: index, %end: index) attributes {block_threads = 128 : i64} {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
//CDE     // expected-error @+1 {{'plan.matmul' op has an epilogue, which target cpu does not have}}
//BC     plan.matmul @x.value x @w.value -> @y {aux = @z, aux_operand = #plan.operand<f32, [16, 16], [16, 1]>, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0>, epilogue = 1 : i32, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
//H     // expected-error @+1 {{'plan.attention' op is not in the library of target cpu}}
//BH     plan.attention [@x.value, @x.value, @x.value, @y, @lse] scale 1.0 {byte_offsets = array<i64: 0, 0, 0, 0, 0>, tensors = [#plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 1], [16, 16, 1, 1]>]}
//BFG     plan.copy @x.value at 0 to @y at 0 bytes 1024
//B     plan.matmul @x.value x @w.value -> @y {addend = @y, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
//D     plan.matmul @x.value x @w.value -> @y {addend = @z, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
//E     plan.matmul @x.value x @w.value -> @y {bias_gradient = @lse, bias_gradient_kind = 2 : i32, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
//FG     // expected-error @+1 {{'plan.matmul' op writes @y over an operand}}
//F     plan.matmul @y x @w.value -> @y {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
//G     plan.matmul @y x @w.value -> @y {addend = @y, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
//I     // expected-error @+1 {{'plan.attention_grad' op is not in the library of target cpu}}
//I     plan.attention_grad [@x.value, @x.value, @x.value, @y, @lse, @x.value, @y, @z, @words] scale 1.0 {byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0, 0, 0>, tensors = [#plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 1], [16, 16, 1, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>]}
    plan.matmul @x.value x @w.value -> @w.gradient {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
  }
  plan.sequence @apply_step {
//J     // expected-error @+1 {{'plan.gradient_norm' op has no words, which target cuda sums in}}
//ACDEHIJN     plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32
//K     // expected-error @+1 {{'plan.gradient_norm' op has words, which target cpu does not have}}
//L     // expected-error @+1 {{'plan.gradient_norm' op the words of two sums takes 1200 bytes, but @words has 600}}
//O     // expected-error @+1 {{'plan.gradient_norm' op the list of gradients lives across sequences, but @blocks is not persistent}}
//BFGKLMO     plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32 {finish = @finish, words = @words}
//M     // expected-error @+1 {{'plan.update' op runs @update, which takes the decay as 'memref<1xf32>'}}
//N     // expected-error @+1 {{'plan.update' op runs @update, which takes the decay as 'f32'}}
    plan.update @bucket0 by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}
