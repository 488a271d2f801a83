// RUN: %python %S/Inputs/apply_defects.py %s %S/Inputs/verify-plan.defects > %t.mlir
// RUN: zopt %t.mlir --zopt-verify-plan -split-input-file -verify-diagnostics

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
