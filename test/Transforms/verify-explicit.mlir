// RUN: zopt %s --zopt-verify-explicit -split-input-file -verify-diagnostics

// What is right passes.
module attributes {train.level = "explicit"} {
  train.state @w : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 64>]}
  zero.bucket @published on @data parameters replicated gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 8>]}
  func.func @micro_step(%x: tensor<4x8xf32>, %dw: tensor<8x8xf32>, %db: tensor<8xf32>, %seed: tensor<f32>) {
    zero.reduce_gradients @sharded (%dw) : tensor<8x8xf32>
    zero.reduce_gradients @published (%db) : tensor<8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    zero.update @sharded scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.update @published scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.publish @published
    return
  }
}

// -----

// no_level
// expected-error @+1 {{expects train.level = "explicit", but got "step"}}
module attributes {train.level = "step"} {
  train.state @w : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 64>]}
  zero.bucket @published on @data parameters replicated gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 8>]}
  func.func @micro_step(%x: tensor<4x8xf32>, %dw: tensor<8x8xf32>, %db: tensor<8xf32>, %seed: tensor<f32>) {
    zero.reduce_gradients @sharded (%dw) : tensor<8x8xf32>
    zero.reduce_gradients @published (%db) : tensor<8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    zero.update @sharded scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.update @published scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.publish @published
    return
  }
}

// -----

// bucket_missing
module attributes {train.level = "explicit"} {
  train.state @w : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  // expected-error @+1 {{'train.state' op is a parameter in no bucket}}
  train.state @b : tensor<8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 64>]}
  func.func @micro_step(%x: tensor<4x8xf32>, %dw: tensor<8x8xf32>, %db: tensor<8xf32>, %seed: tensor<f32>) {
    zero.reduce_gradients @sharded (%dw) : tensor<8x8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    zero.update @sharded scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    return
  }
}

// -----

// bucket_twice
module attributes {train.level = "explicit"} {
  train.state @w : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 64>]}
  zero.bucket @published on @data parameters replicated gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 8>]}
  // expected-error @+1 {{'zero.bucket' op holds @b, which is in bucket 'published' too}}
  zero.bucket @again on @data parameters replicated gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 8>]}
  func.func @micro_step(%x: tensor<4x8xf32>, %dw: tensor<8x8xf32>, %db: tensor<8xf32>, %seed: tensor<f32>) {
    zero.reduce_gradients @sharded (%dw) : tensor<8x8xf32>
    zero.reduce_gradients @published (%db) : tensor<8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    zero.update @sharded scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.update @published scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.publish @published
    return
  }
}

// -----

// reads_sharded
module attributes {train.level = "explicit"} {
  train.state @w : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 64>]}
  zero.bucket @published on @data parameters replicated gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 8>]}
  func.func @micro_step(%x: tensor<4x8xf32>, %dw: tensor<8x8xf32>, %db: tensor<8xf32>, %seed: tensor<f32>) {
    // expected-error @+1 {{'train.read_state' op reads @w, which is sharded in bucket 'sharded'}}
    %w = train.read_state @w : tensor<8x8xf32>
    zero.reduce_gradients @sharded (%dw) : tensor<8x8xf32>
    zero.reduce_gradients @published (%db) : tensor<8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    zero.update @sharded scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.update @published scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.publish @published
    return
  }
}

// -----

// accumulates_gradient
module attributes {train.level = "explicit"} {
  train.state @w : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 64>]}
  zero.bucket @published on @data parameters replicated gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 8>]}
  func.func @micro_step(%x: tensor<4x8xf32>, %dw: tensor<8x8xf32>, %db: tensor<8xf32>, %seed: tensor<f32>) {
    // expected-error @+1 {{'train.accumulate' op does not belong to the explicit level: gradients are reduced by bucket}}
    train.accumulate @b, %db : tensor<8xf32>
    zero.reduce_gradients @sharded (%dw) : tensor<8x8xf32>
    zero.reduce_gradients @published (%db) : tensor<8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    zero.update @sharded scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.update @published scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.publish @published
    return
  }
}

// -----

// updates_parameter
module attributes {train.level = "explicit"} {
  train.state @w : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 64>]}
  zero.bucket @published on @data parameters replicated gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 8>]}
  func.func @micro_step(%x: tensor<4x8xf32>, %dw: tensor<8x8xf32>, %db: tensor<8xf32>, %seed: tensor<f32>) {
    zero.reduce_gradients @sharded (%dw) : tensor<8x8xf32>
    zero.reduce_gradients @published (%db) : tensor<8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    // expected-error @+1 {{'train.update' op does not belong to the explicit level: it works on buckets}}
    train.update @b using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    zero.update @sharded scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.update @published scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.publish @published
    return
  }
}

// -----

// used_after_free
module attributes {train.level = "explicit"} {
  train.state @w : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 64>]}
  zero.bucket @published on @data parameters replicated gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 8>]}
  func.func @micro_step(%x: tensor<4x8xf32>, %dw: tensor<8x8xf32>, %db: tensor<8xf32>, %seed: tensor<f32>) {
    %g = zero.all_gather @sharded : !zero.gathered
    %w = zero.view %g @w : tensor<8x8xf32>
    zero.free %g
    // expected-error @+1 {{'train.matmul' op reads a view of @sharded after the bucket's 'zero.free'}}
    %y = train.matmul %x, %w : tensor<4x8xf32>, tensor<8x8xf32> -> tensor<4x8xf32>
    zero.reduce_gradients @sharded (%dw) : tensor<8x8xf32>
    zero.reduce_gradients @published (%db) : tensor<8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    zero.update @sharded scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.update @published scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.publish @published
    return
  }
}

// -----

// reduced_never
module attributes {train.level = "explicit"} {
  train.state @w : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op is reduced 0 times in a micro-step, but expects 1}}
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 64>]}
  zero.bucket @published on @data parameters replicated gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 8>]}
  func.func @micro_step(%x: tensor<4x8xf32>, %dw: tensor<8x8xf32>, %db: tensor<8xf32>, %seed: tensor<f32>) {
    zero.reduce_gradients @published (%db) : tensor<8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    zero.update @sharded scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.update @published scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.publish @published
    return
  }
}

// -----

// updated_never
module attributes {train.level = "explicit"} {
  train.state @w : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op is updated 0 times in a step, but expects 1}}
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 64>]}
  zero.bucket @published on @data parameters replicated gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 8>]}
  func.func @micro_step(%x: tensor<4x8xf32>, %dw: tensor<8x8xf32>, %db: tensor<8xf32>, %seed: tensor<f32>) {
    zero.reduce_gradients @sharded (%dw) : tensor<8x8xf32>
    zero.reduce_gradients @published (%db) : tensor<8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    zero.update @published scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.publish @published
    return
  }
}

// -----

// published_never
module attributes {train.level = "explicit"} {
  train.state @w : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 64>]}
  // expected-error @+1 {{'zero.bucket' op is published 0 times in a step, but expects 1}}
  zero.bucket @published on @data parameters replicated gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 8>]}
  func.func @micro_step(%x: tensor<4x8xf32>, %dw: tensor<8x8xf32>, %db: tensor<8xf32>, %seed: tensor<f32>) {
    zero.reduce_gradients @sharded (%dw) : tensor<8x8xf32>
    zero.reduce_gradients @published (%db) : tensor<8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    zero.update @sharded scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.update @published scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    return
  }
}

// -----

// residual_undecided
module attributes {train.level = "explicit"} {
  train.state @w : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 64>]}
  zero.bucket @published on @data parameters replicated gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 8>]}
  func.func @micro_step(%x: tensor<4x8xf32>, %dw: tensor<8x8xf32>, %db: tensor<8xf32>, %seed: tensor<f32>) {
    // expected-error @+1 {{'train.exp' op has a result that backward uses, but no decision in zero.residual}}
    %e = train.exp %seed : tensor<f32>
    train.backward %seed seed %seed : tensor<f32>
    %f = train.neg %e : tensor<f32>
    zero.reduce_gradients @sharded (%dw) : tensor<8x8xf32>
    zero.reduce_gradients @published (%db) : tensor<8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    zero.update @sharded scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.update @published scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.publish @published
    return
  }
}

// -----

// weight_kept
module attributes {train.level = "explicit"} {
  train.state @w : tensor<8x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 64>]}
  zero.bucket @published on @data parameters replicated gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 8>]}
  func.func @micro_step(%x: tensor<4x8xf32>, %dw: tensor<8x8xf32>, %db: tensor<8xf32>, %seed: tensor<f32>) {
    // expected-error @+1 {{'zero.all_gather' op is a gathered weight that backward uses: backward gathers again}}
    %g = zero.all_gather @sharded {zero.residual = "keep"} : !zero.gathered
    // expected-error @+1 {{'zero.view' op is a gathered weight that backward uses: backward gathers again}}
    %w = zero.view %g @w {zero.residual = "keep"} : tensor<8x8xf32>
    train.backward %seed seed %seed : tensor<f32>
    %y = train.matmul %x, %w : tensor<4x8xf32>, tensor<8x8xf32> -> tensor<4x8xf32>
    zero.free %g
    zero.reduce_gradients @sharded (%dw) : tensor<8x8xf32>
    zero.reduce_gradients @published (%db) : tensor<8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    zero.update @sharded scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.update @published scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    zero.publish @published
    return
  }
}

// -----

// no_function
// expected-error @+1 {{expects a function @micro_step or @forward}}
module attributes {train.level = "explicit"} {
}

// -----

// two_blocks, other_type
module attributes {train.level = "explicit"} {
  train.state @w : tensor<8xf32> {role = #train.role<parameter>}
  zero.group @data
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute bf16 gradient bf16 {frozen, segments = [#zero.segment<@w, 0, 8>]}
  func.func @forward() {
    // expected-error @+1 {{'train.read_state' op reads @w as 'f32', but bucket 'kept' holds 'bf16'}}
    %w = train.read_state @w : tensor<8xf32>
    return
  }
  // expected-error @+1 {{'func.func' op expects one block}}
  func.func @other() {
    cf.br ^next
  ^next:
    return
  }
}
