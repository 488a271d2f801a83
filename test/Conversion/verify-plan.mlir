// RUN: zopt %s --zopt-verify-plan -split-input-file -verify-diagnostics

// A sound plan passes.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A buffer ends outside its arena.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9280
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  // expected-error @+1 {{'plan.buffer' op ends at byte 9284 of @device, which has 9280}}
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// The last rank's slice ends outside its arena.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  // expected-error @+1 {{'plan.buffer' op ends at byte 9984 of @device, which has 9344}}
  plan.buffer @v.slice in @device at 8960 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A buffer inside a sequence lies on a persistent one.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  // expected-error @+1 {{'plan.buffer' op takes bytes [3136, 4160), but persistent @x.value lies in [3136, 4160)}}
  plan.buffer @kept in @device at 3136 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// Two persistent buffers overlap.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  // expected-error @+1 {{'plan.buffer' op starts at byte 448, inside persistent @w.slice that ends at 512}}
  plan.buffer @w.gradient in @device at 448 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A slice lies across the end of the whole.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  // expected-error @+1 {{'plan.buffer' op is a rank's slice, but lies in no persistent buffer as a whole}}
  plan.buffer @v.gradient.slice in @device at 2560 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A value is overwritten before its last reader.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 5184 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    // expected-error @+1 {{'plan.launch' op reads byte 0 of @kept, which 'plan.matmul' has overwritten with @t}}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A value is partly overwritten before its last reader.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4672 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    // expected-error @+1 {{'plan.launch' op reads byte 0 of @kept, which 'plan.launch' has overwritten with @gradient}}
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// What nothing has written is read.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.wait 0
    // expected-error @+1 {{'plan.matmul' op reads byte 0 of @kept, which nothing has written}}
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A part that nothing has written is read.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 2048 for activations
  plan.buffer @t in @device at 8256 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 7232 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [0, 0, 0] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    // expected-error @+1 {{'plan.launch' op reads byte 1024 of @kept, which nothing has written}}
    plan.launch @add [@t, @kept, @gradient] offsets [0, 512, 0] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A gathered bucket is read before the gather is complete.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    // expected-error @+1 {{'plan.matmul' op reads @gathered at bytes [4160, 5184) of its arena while collective 0 writes bytes [4160, 5184)}}
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A collective in flight has its source written.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    // expected-error @+1 {{'plan.launch' op writes @gradient at bytes [4160, 5184) of its arena while collective 1 reads bytes [4160, 5184)}}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A collective's workspace lies over its own source.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 4160 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    // expected-error @+1 {{'plan.reduce_scatter' op writes @parts over its own @gradient}}
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A collective in flight has its destination's bytes read.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    // expected-error @+1 {{'plan.launch' op reads @gathered at bytes [4160, 5184) of its arena while collective 0 writes bytes [4160, 5184)}}
    plan.launch @add [@x.value, @gathered, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A collective is never waited for.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    // expected-error @+1 {{'plan.reduce_scatter' op starts collective 2, which is not waited for in @micro_step}}
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A collective is waited for twice.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
    // expected-error @+1 {{'plan.wait' op waits for collective 2, which is complete}}
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A collective that was not started is waited for.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    // expected-error @+1 {{'plan.wait' op waits for collective 4, which was not started}}
    plan.wait 4
  }
}

// -----

// Two collectives have one id.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    // expected-error @+1 {{'plan.all_gather' op starts collective 2, which was started before}}
    plan.all_gather 2 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 2
  }
}

// -----

// A kernel has too few arguments.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    // expected-error @+1 {{'plan.launch' op gives 2 buffers to @add, which takes 3}}
    plan.launch @add [@t, @gradient] offsets [] writes [1] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A launch hides what its kernel writes.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    // expected-error @+1 {{'plan.launch' op says that it writes argument 1, which @add does not store to}}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [1] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A launch starts too far into a buffer.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    // expected-error @+1 {{'plan.launch' op writes bytes [64, 1088) of @gradient, which has 1024}}
    plan.launch @add [@t, @kept, @gradient] offsets [0, 0, 64] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A launch starts inside an element.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    // expected-error @+1 {{'plan.launch' op starts argument 0 at byte 2, inside an element of 'f32'}}
    plan.launch @add [@t, @kept, @gradient] offsets [2, 0, 0] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A product's strides leave the buffer.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    // expected-error @+1 {{'plan.matmul' op reads bytes [0, 1084) of @gathered, which has 1024}}
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 17]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A product overwrites its operand.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    // expected-error @+1 {{'plan.matmul' op writes @kept over an operand}}
    plan.matmul @kept x @gathered -> @kept {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A reduction gives too little.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    // expected-error @+1 {{'plan.reduce_scatter' op gives 64 elements of 'f32', but the gradient of @sharded takes 128 of 'f32'}}
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 64 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A workspace is too small.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 512 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    // expected-error @+1 {{'plan.reduce_scatter' op writes bytes [0, 1024) of @parts, which has 512}}
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A reduction accumulates where a step has one micro-step.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    // expected-error @+1 {{'plan.reduce_scatter' op accumulates, but a step has 1 micro-steps}}
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce" {accumulate}
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A gradient is never reduced.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    // expected-error @+1 {{'plan.gradient_norm' op reads @w.gradient, which nothing has written}}
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// The norm leaves a bucket out.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    // expected-error @+1 {{'plan.gradient_norm' op leaves out @published}}
    plan.gradient_norm [@sharded] by [@squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// The norm counts a bucket twice.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    // expected-error @+1 {{'plan.gradient_norm' op counts @sharded twice}}
    plan.gradient_norm [@sharded, @sharded] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// The norm reads gradients as another type.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    // expected-error @+1 {{'plan.gradient_norm' op runs @halves on gradients of 'f32', which is made for 'memref<?x128xbf16>'}}
    plan.gradient_norm [@sharded, @published] by [@squares, @halves] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A bucket is never updated.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op is never updated}}
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A bucket is updated twice.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    // expected-error @+1 {{'plan.update' op updates @sharded a second time}}
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// An update has too few arguments.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    // expected-error @+1 {{'plan.update' op runs @squares of 4 arguments, but expects 9}}
    plan.update @sharded by @squares scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// Updated slices are not published.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    // expected-error @+1 {{'plan.update' op updates slices of @published, which are not gathered afterwards}}
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
  }
}

// -----

// A bucket has a place of another size.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  // expected-error @+1 {{'plan.placed_bucket' op parameters takes 512 bytes, but @w.slice has 256}}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 256 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A state has no place.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  // expected-error @+1 {{'train.state' op has no place in the plan}}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A plan for another world has other slices.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 4 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  // expected-error @+1 {{'plan.buffer' op is a rank's slice, but lies in no persistent buffer as a whole}}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A buffer does not exist.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    // expected-error @+1 {{'plan.zero' op refers to unknown buffer @nowhere}}
    plan.zero @nowhere at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    plan.launch @add [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}

// -----

// A kernel does not exist.
module attributes {train.level = "final"} {
  train.state @w : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @v : tensor<16x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 256>]}
  zero.bucket @published on @data parameters replicated gradients replicated optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@v, 0, 256>]}
  plan.target "cpu" {accum_steps = 1 : i64, cpu = "", features = "", libraries = [], micro_batch = 1 : i64, threads = 1 : i64, triple = "", world_size = 2 : i64}
  plan.placed_bucket @sharded padded 256 slice 128 parameters @w.slice {gradient = @w.gradient, gradient_type = f32, slots = []}
  plan.placed_bucket @published padded 256 slice 128 parameters @v.whole {gradient = @v.gradient.slice, gradient_type = f32, slots = []}
  plan.placed_state @s in @s.value
  plan.input @x input from @x.value : tensor<16x16xf32>
  plan.arena @device device 9344
  plan.buffer @w.slice in @device at 0 bytes 512 for parameters {persistent}
  plan.buffer @w.gradient in @device at 512 bytes 512 for gradients {persistent}
  plan.buffer @v.whole in @device at 1024 bytes 1024 for parameters {persistent}
  plan.buffer @v.slice in @device at 1024 bytes 512 for parameters {persistent, rank_stride = 512 : i64}
  plan.buffer @v.gradient in @device at 2048 bytes 1024 for gradients {persistent}
  plan.buffer @v.gradient.slice in @device at 2048 bytes 512 for gradients {persistent, rank_stride = 512 : i64}
  plan.buffer @s.value in @device at 3072 bytes 4 for buffers {persistent}
  plan.buffer @x.value in @device at 3136 bytes 1024 for inputs {persistent}
  plan.buffer @gathered in @device at 4160 bytes 1024 for gathered
  plan.buffer @kept in @device at 5184 bytes 1024 for activations
  plan.buffer @t in @device at 6208 bytes 1024 for activations
  plan.buffer @gradient in @device at 4160 bytes 1024 for communication
  plan.buffer @parts in @device at 7232 bytes 1024 for communication
  plan.buffer @parts2 in @device at 8256 bytes 1024 for communication
  plan.buffer @blocks in @device at 4160 bytes 8 for workspace
  plan.buffer @norm in @device at 9280 bytes 4 for activations
  plan.kernel @add(%a: memref<256xf32>, %b: memref<256xf32>, %c: memref<256xf32>, %begin: index, %end: index) {
    %one = arith.constant 1 : index
    scf.for %i = %begin to %end step %one {
      %x = memref.load %a[%i] : memref<256xf32>
      %y = memref.load %b[%i] : memref<256xf32>
      %z = arith.addf %x, %y : f32
      memref.store %z, %c[%i] : memref<256xf32>
    }
    plan.return
  }
  plan.kernel @squares(%g: memref<?x128xf32>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @halves(%g: memref<?x128xbf16>, %s: memref<?xf64>, %begin: index, %end: index) {
    plan.return
  }
  plan.kernel @update(%g: memref<?x128xf32>, %p: memref<?x128xf32>, %scale: memref<1xf32>, %lr: memref<1xf32>, %step: memref<1xf32>, %finite: memref<1xf32>, %decay: memref<1xf32>, %begin: index, %end: index) {
    plan.return
  }
  plan.sequence @micro_step {
    plan.zero @s.value at 0 bytes 4 {first_micro_step}
    plan.all_gather 0 @w.slice into @gathered bytes_per_rank 512 label "gather"
    // expected-error @+1 {{'plan.launch' op refers to unknown kernel @nothing}}
    plan.launch @nothing [@x.value, @v.whole, @kept] offsets [] writes [2] extent 256 grain 1
    plan.wait 0
    plan.matmul @kept x @gathered -> @t {byte_offsets = array<i64: 0, 0, 0, 0>, lhs_operand = #plan.operand<f32, [16, 16], [16, 1]>, out_operand = #plan.operand<f32, [16, 16], [16, 1]>, rhs_operand = #plan.operand<f32, [16, 16], [1, 16]>, scale = 1.0 : f64}
    plan.launch @add [@t, @kept, @gradient] offsets [] writes [2] extent 256 grain 1
    plan.reduce_scatter 1 @gradient into @w.gradient workspace @parts elements_per_rank 128 f32 -> f32 label "reduce"
    plan.launch @add [@t, @kept, @v.gradient] offsets [] writes [2] extent 256 grain 1
    plan.wait 1
    plan.reduce_scatter 2 @v.gradient into @v.gradient.slice workspace @parts2 elements_per_rank 128 f32 -> f32 label "reduce"
    plan.wait 2
  }
  plan.sequence @apply_step {
    plan.gradient_norm [@sharded, @published] by [@squares, @squares] workspace @blocks into @norm f32
    plan.update @sharded by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.update @published by @update scale @norm lr @s.value step @s.value finite @s.value decays [0.0]
    plan.all_gather 3 @v.slice into @v.whole bytes_per_rank 512 label "publish"
    plan.wait 3
  }
}
