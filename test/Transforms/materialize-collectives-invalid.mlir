// RUN: zopt %s --zopt-materialize-collectives -split-input-file -verify-diagnostics

// A gradient comes once.
module attributes {train.level = "step", train.mode = "train"} {
  train.state @w : tensor<8xf32> {role = #train.role<parameter>, trained}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @b on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 8>]}
  func.func @micro_step(%x: tensor<8xf32>, %s: tensor<f32>) {
    train.backward %s seed %s : tensor<f32>
    train.accumulate @w, %x : tensor<8xf32>
    // expected-error @+1 {{'train.accumulate' op adds to the gradient of @w, which has one already}}
    train.accumulate @w, %x : tensor<8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    train.update @w using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    return
  }
}

// -----

// Parameters of a bucket are updated together.
module attributes {train.level = "step", train.mode = "train"} {
  train.state @w : tensor<8xf32> {role = #train.role<parameter>, trained}
  train.state @v : tensor<8xf32> {role = #train.role<parameter>, trained}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op has no update of @v, but of other parameters}}
  zero.bucket @b on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 8>, #zero.segment<@v, 128, 8>]}
  func.func @micro_step(%x: tensor<8xf32>, %s: tensor<f32>) {
    train.backward %s seed %s : tensor<f32>
    train.accumulate @w, %x : tensor<8xf32>
    train.accumulate @v, %x : tensor<8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    train.update @w using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    return
  }
}

// -----

// And alike.
module attributes {train.level = "step", train.mode = "train"} {
  train.state @w : tensor<8xf32> {role = #train.role<parameter>, trained}
  train.state @v : tensor<8xf32> {role = #train.role<parameter>, trained}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @b on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 8>, #zero.segment<@v, 128, 8>]}
  func.func @micro_step(%x: tensor<8xf32>, %s: tensor<f32>) {
    train.backward %s seed %s : tensor<f32>
    train.accumulate @w, %x : tensor<8xf32>
    train.accumulate @v, %x : tensor<8xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>, %t: tensor<f32>) {
    // expected-error @+1 {{'train.update' op expects the scale, lr, step, finite and momentum of the other updates of bucket 'b'}}
    train.update @w using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    train.update @v using @sgd scale %t lr %s step %s finite %s decay 0.0 : tensor<f32>
    return
  }
}

// -----

module attributes {train.level = "step", train.mode = "train"} {
  train.state @w : tensor<8xf32> {role = #train.role<parameter>, trained}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  func.func @micro_step(%x: tensor<8xf32>, %s: tensor<f32>) {
    train.backward %s seed %s : tensor<f32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    // expected-error @+1 {{'train.update' op updates @w, which is in no bucket}}
    train.update @w using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    return
  }
}
