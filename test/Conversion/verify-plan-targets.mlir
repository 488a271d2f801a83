// RUN: zopt %s --zopt-verify-plan -split-input-file -verify-diagnostics

// What a command may be depends on the target.

// Sound on the CPU.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
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
  plan.buffer @blocks in @device at 5184 bytes 16 for workspace
  plan.buffer @norm in @device at 5248 bytes 4 for activations
  plan.buffer @words in @device at 5312 bytes 1200 for workspace
  plan.buffer @lse in @device at 6592 bytes 64 for activations
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @finish(%w: memref<150xi64>, %n: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.matmul @x.value x @w.value -> @w.gradient {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32
    plan.update @bucket0 by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// Sound on a GPU: an epilogue, attention, a product that is added to what it is written over.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  plan.target "cuda" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
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
  plan.buffer @blocks in @device at 5184 bytes 24 for workspace {persistent}
  plan.buffer @norm in @device at 5248 bytes 4 for activations
  plan.buffer @words in @device at 5312 bytes 1200 for workspace {persistent}
  plan.buffer @lse in @device at 6592 bytes 64 for activations
  plan.kernel @squares(%g: memref<?xf32>, %l: memref<3xi64>, %w: memref<75xi64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @finish(%w: memref<150xi64>, %n: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: f32, %begin: index, %end: index) attributes {block_threads = 128 : i64} {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.matmul @x.value x @w.value -> @y {aux = @z, aux_operand = #plan.operand<f32, [16, 16], [16, 1]>, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0>, epilogue = 1 : i32, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
    plan.attention [@x.value, @x.value, @x.value, @y, @lse] scale 1.0 {byte_offsets = array<i64: 0, 0, 0, 0, 0>, tensors = [#plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 1], [16, 16, 1, 1]>]}
    plan.copy @x.value at 0 to @y at 0 bytes 1024
    plan.matmul @x.value x @w.value -> @y {addend = @y, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
    plan.matmul @x.value x @w.value -> @w.gradient {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32 {finish = @finish, words = @words}
    plan.update @bucket0 by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// An epilogue on the CPU.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
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
  plan.buffer @blocks in @device at 5184 bytes 16 for workspace
  plan.buffer @norm in @device at 5248 bytes 4 for activations
  plan.buffer @words in @device at 5312 bytes 1200 for workspace
  plan.buffer @lse in @device at 6592 bytes 64 for activations
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @finish(%w: memref<150xi64>, %n: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    // expected-error @+1 {{'plan.matmul' op has an epilogue, which target cpu does not have}}
    plan.matmul @x.value x @w.value -> @y {aux = @z, aux_operand = #plan.operand<f32, [16, 16], [16, 1]>, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0>, epilogue = 1 : i32, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
    plan.matmul @x.value x @w.value -> @w.gradient {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32
    plan.update @bucket0 by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// An addend on the CPU: it would not be added.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
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
  plan.buffer @blocks in @device at 5184 bytes 16 for workspace
  plan.buffer @norm in @device at 5248 bytes 4 for activations
  plan.buffer @words in @device at 5312 bytes 1200 for workspace
  plan.buffer @lse in @device at 6592 bytes 64 for activations
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @finish(%w: memref<150xi64>, %n: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    // expected-error @+1 {{'plan.matmul' op has an epilogue, which target cpu does not have}}
    plan.matmul @x.value x @w.value -> @y {addend = @z, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
    plan.matmul @x.value x @w.value -> @w.gradient {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32
    plan.update @bucket0 by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// A bias gradient on the CPU.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
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
  plan.buffer @blocks in @device at 5184 bytes 16 for workspace
  plan.buffer @norm in @device at 5248 bytes 4 for activations
  plan.buffer @words in @device at 5312 bytes 1200 for workspace
  plan.buffer @lse in @device at 6592 bytes 64 for activations
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @finish(%w: memref<150xi64>, %n: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    // expected-error @+1 {{'plan.matmul' op has an epilogue, which target cpu does not have}}
    plan.matmul @x.value x @w.value -> @y {bias_gradient = @lse, bias_gradient_kind = 2 : i32, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
    plan.matmul @x.value x @w.value -> @w.gradient {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32
    plan.update @bucket0 by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// A product over an operand.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  plan.target "cuda" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
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
  plan.buffer @blocks in @device at 5184 bytes 24 for workspace {persistent}
  plan.buffer @norm in @device at 5248 bytes 4 for activations
  plan.buffer @words in @device at 5312 bytes 1200 for workspace {persistent}
  plan.buffer @lse in @device at 6592 bytes 64 for activations
  plan.kernel @squares(%g: memref<?xf32>, %l: memref<3xi64>, %w: memref<75xi64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @finish(%w: memref<150xi64>, %n: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: f32, %begin: index, %end: index) attributes {block_threads = 128 : i64} {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.copy @x.value at 0 to @y at 0 bytes 1024
    // expected-error @+1 {{'plan.matmul' op writes @y over an operand}}
    plan.matmul @y x @w.value -> @y {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
    plan.matmul @x.value x @w.value -> @w.gradient {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32 {finish = @finish, words = @words}
    plan.update @bucket0 by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// A product added to what it is written over, which is a factor of it too.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  plan.target "cuda" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
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
  plan.buffer @blocks in @device at 5184 bytes 24 for workspace {persistent}
  plan.buffer @norm in @device at 5248 bytes 4 for activations
  plan.buffer @words in @device at 5312 bytes 1200 for workspace {persistent}
  plan.buffer @lse in @device at 6592 bytes 64 for activations
  plan.kernel @squares(%g: memref<?xf32>, %l: memref<3xi64>, %w: memref<75xi64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @finish(%w: memref<150xi64>, %n: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: f32, %begin: index, %end: index) attributes {block_threads = 128 : i64} {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.copy @x.value at 0 to @y at 0 bytes 1024
    // expected-error @+1 {{'plan.matmul' op writes @y over an operand}}
    plan.matmul @y x @w.value -> @y {addend = @y, byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
    plan.matmul @x.value x @w.value -> @w.gradient {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32 {finish = @finish, words = @words}
    plan.update @bucket0 by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// Attention on the CPU.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
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
  plan.buffer @blocks in @device at 5184 bytes 16 for workspace
  plan.buffer @norm in @device at 5248 bytes 4 for activations
  plan.buffer @words in @device at 5312 bytes 1200 for workspace
  plan.buffer @lse in @device at 6592 bytes 64 for activations
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @finish(%w: memref<150xi64>, %n: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    // expected-error @+1 {{'plan.attention' op is not in the library of target cpu}}
    plan.attention [@x.value, @x.value, @x.value, @y, @lse] scale 1.0 {byte_offsets = array<i64: 0, 0, 0, 0, 0>, tensors = [#plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 1], [16, 16, 1, 1]>]}
    plan.matmul @x.value x @w.value -> @w.gradient {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32
    plan.update @bucket0 by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// Attention's gradient on the CPU.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
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
  plan.buffer @blocks in @device at 5184 bytes 16 for workspace
  plan.buffer @norm in @device at 5248 bytes 4 for activations
  plan.buffer @words in @device at 5312 bytes 1200 for workspace
  plan.buffer @lse in @device at 6592 bytes 64 for activations
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @finish(%w: memref<150xi64>, %n: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    // expected-error @+1 {{'plan.attention_grad' op is not in the library of target cpu}}
    plan.attention_grad [@x.value, @x.value, @x.value, @y, @lse, @x.value, @y, @z, @words] scale 1.0 {byte_offsets = array<i64: 0, 0, 0, 0, 0, 0, 0, 0, 0>, tensors = [#plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 1], [16, 16, 1, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>, #plan.operand<f32, [1, 1, 16, 16], [256, 256, 16, 1]>]}
    plan.matmul @x.value x @w.value -> @w.gradient {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32
    plan.update @bucket0 by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// A norm without words on a GPU.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  plan.target "cuda" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
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
  plan.buffer @blocks in @device at 5184 bytes 24 for workspace {persistent}
  plan.buffer @norm in @device at 5248 bytes 4 for activations
  plan.buffer @words in @device at 5312 bytes 1200 for workspace {persistent}
  plan.buffer @lse in @device at 6592 bytes 64 for activations
  plan.kernel @squares(%g: memref<?xf32>, %l: memref<3xi64>, %w: memref<75xi64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @finish(%w: memref<150xi64>, %n: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: f32, %begin: index, %end: index) attributes {block_threads = 128 : i64} {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.matmul @x.value x @w.value -> @w.gradient {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
  }
  plan.sequence @apply_step {
    // expected-error @+1 {{'plan.gradient_norm' op has no words, which target cuda sums in}}
    plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32
    plan.update @bucket0 by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// A norm with words on the CPU.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
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
  plan.buffer @blocks in @device at 5184 bytes 16 for workspace
  plan.buffer @norm in @device at 5248 bytes 4 for activations
  plan.buffer @words in @device at 5312 bytes 1200 for workspace
  plan.buffer @lse in @device at 6592 bytes 64 for activations
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @finish(%w: memref<150xi64>, %n: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.matmul @x.value x @w.value -> @w.gradient {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
  }
  plan.sequence @apply_step {
    // expected-error @+1 {{'plan.gradient_norm' op has words, which target cpu does not have}}
    plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32 {finish = @finish, words = @words}
    plan.update @bucket0 by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// Words for one sum instead of two.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  plan.target "cuda" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
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
  plan.buffer @blocks in @device at 5184 bytes 24 for workspace {persistent}
  plan.buffer @norm in @device at 5248 bytes 4 for activations
  plan.buffer @words in @device at 5312 bytes 600 for workspace
  plan.buffer @lse in @device at 6592 bytes 64 for activations
  plan.kernel @squares(%g: memref<?xf32>, %l: memref<3xi64>, %w: memref<75xi64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @finish(%w: memref<150xi64>, %n: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: f32, %begin: index, %end: index) attributes {block_threads = 128 : i64} {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.matmul @x.value x @w.value -> @w.gradient {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
  }
  plan.sequence @apply_step {
    // expected-error @+1 {{'plan.gradient_norm' op the words of two sums takes 1200 bytes, but @words has 600}}
    plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32 {finish = @finish, words = @words}
    plan.update @bucket0 by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// The decay in memory on a GPU.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  plan.target "cuda" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
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
  plan.buffer @blocks in @device at 5184 bytes 24 for workspace {persistent}
  plan.buffer @norm in @device at 5248 bytes 4 for activations
  plan.buffer @words in @device at 5312 bytes 1200 for workspace {persistent}
  plan.buffer @lse in @device at 6592 bytes 64 for activations
  plan.kernel @squares(%g: memref<?xf32>, %l: memref<3xi64>, %w: memref<75xi64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @finish(%w: memref<150xi64>, %n: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.matmul @x.value x @w.value -> @w.gradient {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32 {finish = @finish, words = @words}
    // expected-error @+1 {{'plan.update' op runs @update, which takes the decay as 'memref<1xf32>'}}
    plan.update @bucket0 by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// The decay by value on the CPU.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
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
  plan.buffer @blocks in @device at 5184 bytes 16 for workspace
  plan.buffer @norm in @device at 5248 bytes 4 for activations
  plan.buffer @words in @device at 5312 bytes 1200 for workspace
  plan.buffer @lse in @device at 6592 bytes 64 for activations
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @finish(%w: memref<150xi64>, %n: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: f32, %begin: index, %end: index) attributes {block_threads = 128 : i64} {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.matmul @x.value x @w.value -> @w.gradient {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, scale = 1.0 : f64}
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@bucket0] by [@squares] workspace @blocks into @norm f32
    // expected-error @+1 {{'plan.update' op runs @update, which takes the decay as 'f32'}}
    plan.update @bucket0 by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}
