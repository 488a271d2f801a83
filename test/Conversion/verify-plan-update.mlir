// RUN: zopt %s --zopt-verify-plan --verify-diagnostics --split-input-file

// A plan whose update is right.
module attributes {train.level = "final"} {
  train.state @w : tensor<128xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @rule slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @b on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @rule, segments = [#zero.segment<@w, 0, 128>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
  plan.placed_bucket @b padded 128 slice 128 parameters @w.value {gradient = @g, gradient_type = f32, gradient_whole, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<128xf32>
  plan.arena @device device 1728
  plan.buffer @w.value in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @g in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @s.value in @device at 1024 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 1088 bytes 512 for inputs {persistent}
  plan.buffer @blocks in @device at 1600 bytes 8 for workspace
  plan.buffer @norm in @device at 1664 bytes 4 for activations
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.copy @x.value at 0 to @g at 0 bytes 512
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@b] by [@squares] workspace @blocks into @norm f32
    plan.update @b by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// A factor of the rate for a kernel that takes none.
module attributes {train.level = "final"} {
  train.state @w : tensor<128xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @rule slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @b on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @rule, segments = [#zero.segment<@w, 0, 128>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
  plan.placed_bucket @b padded 128 slice 128 parameters @w.value {gradient = @g, gradient_type = f32, gradient_whole, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<128xf32>
  plan.arena @device device 1728
  plan.buffer @w.value in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @g in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @s.value in @device at 1024 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 1088 bytes 512 for inputs {persistent}
  plan.buffer @blocks in @device at 1600 bytes 8 for workspace
  plan.buffer @norm in @device at 1664 bytes 4 for activations
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.copy @x.value at 0 to @g at 0 bytes 512
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@b] by [@squares] workspace @blocks into @norm f32
    // expected-error @+1 {{'plan.update' op runs @update of 9 arguments, but expects 10}}
    plan.update @b by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0] rates [2.0]
  }
}

// -----

// More factors of the rate than segments.
module attributes {train.level = "final"} {
  train.state @w : tensor<128xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @rule slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @b on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @rule, segments = [#zero.segment<@w, 0, 128>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
  plan.placed_bucket @b padded 128 slice 128 parameters @w.value {gradient = @g, gradient_type = f32, gradient_whole, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<128xf32>
  plan.arena @device device 1728
  plan.buffer @w.value in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @g in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @s.value in @device at 1024 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 1088 bytes 512 for inputs {persistent}
  plan.buffer @blocks in @device at 1600 bytes 8 for workspace
  plan.buffer @norm in @device at 1664 bytes 4 for activations
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.copy @x.value at 0 to @g at 0 bytes 512
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@b] by [@squares] workspace @blocks into @norm f32
    // expected-error @+1 {{'plan.update' op has 2 rates for 1 segments}}
    plan.update @b by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0] rates [2.0, 1.0]
  }
}

// -----

// Norms for an optimizer without a trust ratio.
module attributes {train.level = "final"} {
  train.state @w : tensor<128xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @rule slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @b on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @rule, segments = [#zero.segment<@w, 0, 128>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
  plan.placed_bucket @b padded 128 slice 128 parameters @w.value {gradient = @g, gradient_type = f32, gradient_whole, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<128xf32>
  plan.arena @device device 1728
  plan.buffer @w.value in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @g in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @s.value in @device at 1024 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 1088 bytes 512 for inputs {persistent}
  plan.buffer @blocks in @device at 1600 bytes 8 for workspace
  plan.buffer @norm in @device at 1664 bytes 4 for activations
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.copy @x.value at 0 to @g at 0 bytes 512
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@b] by [@squares] workspace @blocks into @norm f32
    // expected-error @+1 {{'plan.update' op has norms, which @rule does not take}}
    plan.update @b by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0] {norms = @norm}
  }
}

// -----

// No norms for an optimizer with one.
module attributes {train.level = "final"} {
  train.state @w : tensor<128xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @rule slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %g, %lr : f32, f32
  } {trust_ratio = array<f64: 0.01, 10.0>}
  zero.group @data
  zero.bucket @b on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @rule, segments = [#zero.segment<@w, 0, 128>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
  plan.placed_bucket @b padded 128 slice 128 parameters @w.value {gradient = @g, gradient_type = f32, gradient_whole, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<128xf32>
  plan.arena @device device 1728
  plan.buffer @w.value in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @g in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @s.value in @device at 1024 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 1088 bytes 512 for inputs {persistent}
  plan.buffer @blocks in @device at 1600 bytes 8 for workspace
  plan.buffer @norm in @device at 1664 bytes 4 for activations
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.copy @x.value at 0 to @g at 0 bytes 512
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@b] by [@squares] workspace @blocks into @norm f32
    // expected-error @+1 {{'plan.update' op has no norms, which @rule takes}}
    plan.update @b by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// Norms that nothing has measured.
module attributes {train.level = "final"} {
  train.state @w : tensor<128xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @rule slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %g, %lr : f32, f32
  } {trust_ratio = array<f64: 0.01, 10.0>}
  zero.group @data
  zero.bucket @b on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @rule, segments = [#zero.segment<@w, 0, 128>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
  plan.placed_bucket @b padded 128 slice 128 parameters @w.value {gradient = @g, gradient_type = f32, gradient_whole, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<128xf32>
  plan.arena @device device 1728
  plan.buffer @w.value in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @g in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @s.value in @device at 1024 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 1088 bytes 512 for inputs {persistent}
  plan.buffer @blocks in @device at 1600 bytes 8 for workspace
  plan.buffer @norm in @device at 1664 bytes 4 for activations
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.copy @x.value at 0 to @g at 0 bytes 512
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@b] by [@squares] workspace @blocks into @norm f32
    // expected-error @+1 {{'plan.update' op takes @norm, which no plan.parameter_norms of @b has measured}}
    plan.update @b by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0] {norms = @norm}
  }
}

// -----

// Room for the sums of too few blocks.
module attributes {train.level = "final"} {
  train.state @w : tensor<128xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @rule slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %g, %lr : f32, f32
  } {trust_ratio = array<f64: 0.01, 10.0>}
  zero.group @data
  zero.bucket @b on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @rule, segments = [#zero.segment<@w, 0, 128>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 1 : i64}
  plan.placed_bucket @b padded 128 slice 128 parameters @w.value {gradient = @g, gradient_type = f32, gradient_whole, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<128xf32>
  plan.arena @device device 1728
  plan.buffer @w.value in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @g in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @s.value in @device at 1024 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 1088 bytes 512 for inputs {persistent}
  plan.buffer @blocks in @device at 1600 bytes 8 for workspace
  plan.buffer @norm in @device at 1664 bytes 4 for activations
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.copy @x.value at 0 to @g at 0 bytes 512
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@b] by [@squares] workspace @blocks into @norm f32
    // expected-error @+1 {{'plan.parameter_norms' op two sums a block takes 16 bytes, but @blocks has 8}}
    plan.parameter_norms @b by @update workspace @blocks into @norm scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}
