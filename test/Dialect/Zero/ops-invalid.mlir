// RUN: zopt %s -split-input-file -verify-diagnostics

// bucket_c1_unaligned
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op segment @b starts at 64, which is not a multiple of 128}}
  zero.bucket @x on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 64, 10>]}
}

// -----

// bucket_c1_overlap
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op segment @b starts at 0, before the end of the one before it at 128}}
  zero.bucket @x on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>, #zero.segment<@b, 0, 10>]}
}

// -----

// bucket_c1_elements
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op segment @b has 11 elements, but the state has 10}}
  zero.bucket @x on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 11>]}
}

// -----

// bucket_c1_role
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op segment @buffer names a state that is not a parameter}}
  zero.bucket @x on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@buffer, 0, 10>]}
}

// -----

// bucket_c1_unknown
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op refers to unknown symbol @nowhere}}
  zero.bucket @x on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@nowhere, 0, 10>]}
}

// -----

// bucket_empty
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op has no segments}}
  zero.bucket @x on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = []}
}

// -----

// bucket_c3_frozen
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op is frozen, but has optimizer @sgd}}
  zero.bucket @x on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, optimizer = @sgd, segments = [#zero.segment<@frozen, 0, 10>]}
}

// -----

// bucket_c3_trained
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op segment @frozen names a parameter that is not trained, but the bucket is not frozen}}
  zero.bucket @x on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@frozen, 0, 10>]}
}

// -----

// bucket_c3_optimizer
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op expects @data to be a 'train.optimizer', but got 'zero.group'}}
  zero.bucket @x on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @data, segments = [#zero.segment<@b, 0, 10>]}
}

// -----

// bucket_c4_parameters
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op has sharded parameters but replicated optimizer state}}
  zero.bucket @x on @data parameters sharded gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
}

// -----

// bucket_c4_gradients
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op has sharded gradients but replicated optimizer state}}
  zero.bucket @x on @data parameters replicated gradients sharded optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
}

// -----

// bucket_types
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op expects float compute and gradient types, but got 'i32' and 'f32'}}
  zero.bucket @x on @data parameters replicated gradients replicated optimizer replicated compute i32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
}

// -----

// all_gather_c1
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  zero.bucket @whole on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@frozen, 0, 10>]}
  func.func @all_gather_c1() {
    // expected-error @+1 {{'zero.all_gather' op gathers @whole, whose parameters are replicated}}
    %g = zero.all_gather @whole : !zero.gathered
    zero.free %g
    return
  }
}

// -----

// all_gather_c2_never
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  zero.bucket @whole on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@frozen, 0, 10>]}
  func.func @all_gather_c2_never() {
    // expected-error @+1 {{'zero.all_gather' op expects one 'zero.free' of its result, but got 0}}
    %g = zero.all_gather @sharded : !zero.gathered
    return
  }
}

// -----

// all_gather_c2_twice
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  zero.bucket @whole on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@frozen, 0, 10>]}
  func.func @all_gather_c2_twice() {
    // expected-error @+1 {{'zero.all_gather' op expects one 'zero.free' of its result, but got 2}}
    %g = zero.all_gather @sharded : !zero.gathered
    zero.free %g
    zero.free %g
    return
  }
}

// -----

// view_c1
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  zero.bucket @whole on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@frozen, 0, 10>]}
  func.func @view_c1() {
    %g = zero.all_gather @sharded : !zero.gathered
    // expected-error @+1 {{'zero.view' op refers to @b, which is not in @sharded}}
    %b = zero.view %g @b : tensor<10xf32>
    zero.free %g
    return
  }
}

// -----

// view_c2
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  zero.bucket @whole on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@frozen, 0, 10>]}
  func.func @view_c2() {
    %g = zero.all_gather @sharded : !zero.gathered
    // expected-error @+1 {{'zero.view' op has type 'tensor<128xf32>', but @w in @sharded is 'tensor<4x32xf32>'}}
    %b = zero.view %g @w : tensor<128xf32>
    zero.free %g
    return
  }
}

// -----

// reduce_gradients_c1_count
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  zero.bucket @whole on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@frozen, 0, 10>]}
  func.func @reduce_gradients_c1_count(%dw: tensor<4x32xf32>) {
    // expected-error @+1 {{'zero.reduce_gradients' op expects one gradient a segment: @sharded has 1, but got 2}}
    zero.reduce_gradients @sharded (%dw, %dw) : tensor<4x32xf32>, tensor<4x32xf32>
    return
  }
}

// -----

// reduce_gradients_c1_type
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  zero.bucket @whole on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@frozen, 0, 10>]}
  func.func @reduce_gradients_c1_type(%dw: tensor<4x32xbf16>) {
    // expected-error @+1 {{'zero.reduce_gradients' op gradient of @w has type 'tensor<4x32xbf16>', but expects 'tensor<4x32xf32>'}}
    zero.reduce_gradients @sharded (%dw) : tensor<4x32xbf16>
    return
  }
}

// -----

// reduce_gradients_frozen
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  zero.bucket @whole on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@frozen, 0, 10>]}
  func.func @reduce_gradients_frozen(%d: tensor<10xf32>) {
    // expected-error @+1 {{'zero.reduce_gradients' op reduces @kept, which is frozen}}
    zero.reduce_gradients @kept (%d) : tensor<10xf32>
    return
  }
}

// -----

// all_reduce_scalars
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  zero.bucket @whole on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@frozen, 0, 10>]}
  func.func @all_reduce_scalars(%x: tensor<2x2xf32>) {
    // expected-error @+1 {{'zero.all_reduce' op expects scalars or vectors, but got 'tensor<2x2xf32>'}}
    %s = zero.all_reduce @data (%x) : tensor<2x2xf32> -> tensor<2x2xf32>
    return
  }
}

// -----

// gradient_norm_frozen
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  zero.bucket @whole on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@frozen, 0, 10>]}
  func.func @gradient_norm_frozen() {
    // expected-error @+1 {{'zero.gradient_norm' op refers to @kept, which is frozen and has no gradient}}
    %n = zero.gradient_norm @data [@kept] : tensor<f32>
    return
  }
}

// -----

// update_c1
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  zero.bucket @whole on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@frozen, 0, 10>]}
  func.func @update_c1(%s: tensor<f32>) {
    // expected-error @+1 {{'zero.update' op expects one decay a segment: @whole has 1, but got 2}}
    zero.update @whole scale %s lr %s step %s finite %s decays [0.0, 0.0] : tensor<f32>
    return
  }
}

// -----

// update_c1_rates
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  zero.bucket @whole on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@frozen, 0, 10>]}
  func.func @update_c1_rates(%s: tensor<f32>) {
    // expected-error @+1 {{'zero.update' op expects one rate a segment: @whole has 1, but got 2}}
    zero.update @whole scale %s lr %s step %s finite %s decays [0.0] rates [1.0, 2.0] : tensor<f32>
    return
  }
}

// -----

// update_c2
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  zero.bucket @whole on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@frozen, 0, 10>]}
  func.func @update_c2(%s: tensor<f32>) {
    // expected-error @+1 {{'zero.update' op updates @kept, which has no optimizer}}
    zero.update @kept scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    return
  }
}

// -----

// publish_c1
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @frozen : tensor<10xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.state @buffer : tensor<10xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  zero.bucket @sharded on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  zero.bucket @whole on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@b, 0, 10>]}
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@frozen, 0, 10>]}
  func.func @publish_c1() {
    // expected-error @+1 {{'zero.publish' op publishes @whole, which expects replicated parameters and sharded optimizer state}}
    zero.publish @whole
    return
  }
}

// -----

// bucket_c1_negative_reserve
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op segment @w reserves -64 elements, but expects at least 0}}
  zero.bucket @x on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128, reserved -64>]}
}

// -----

// bucket_c1_inside_reserve
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @b : tensor<10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op segment @b starts at 128, before the end of the one before it at 192}}
  zero.bucket @x on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128, reserved 64>, #zero.segment<@b, 128, 10>]}
}

// -----

// direction_c1
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  train.optimizer @muon slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %g : f32
  } {newton_schulz = 5 : i64}
  zero.group @data
  zero.bucket @matrix on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  func.func @direction_c1(%s: tensor<f32>) {
    // expected-error @+1 {{'zero.direction' op is about @matrix, whose optimizer @sgd makes no Newton-Schulz iterations}}
    %d = zero.direction @matrix scale %s finite %s : tensor<f32>, tensor<f32> -> tensor<4x32xf32>
    return
  }
}

// -----

// direction_c2
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  train.optimizer @muon slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %g : f32
  } {newton_schulz = 5 : i64}
  zero.group @data
  zero.bucket @matrix on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @muon, segments = [#zero.segment<@w, 0, 128>]}
  func.func @direction_c2(%s: tensor<f32>) {
    // expected-error @+1 {{'zero.direction' op direction of @w has type 'tensor<4x8xf32>', but expects 'tensor<4x32xf32>'}}
    %d = zero.direction @matrix scale %s finite %s : tensor<f32>, tensor<f32> -> tensor<4x8xf32>
    return
  }
}

// -----

// update_c3
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  train.optimizer @muon slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %g : f32
  } {newton_schulz = 5 : i64}
  zero.group @data
  zero.bucket @matrix on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  func.func @update_c3(%s: tensor<f32>) {
    // expected-error @+1 {{'zero.update' op has a momentum, which @sgd does not take}}
    zero.update @matrix scale %s lr %s step %s finite %s momentum %s : tensor<f32> decays [0.0] : tensor<f32>
    return
  }
}

// -----

// update_c4
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  train.optimizer @muon slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %g : f32
  } {newton_schulz = 5 : i64}
  zero.group @data
  zero.bucket @matrix on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @muon, segments = [#zero.segment<@w, 0, 128>]}
  func.func @update_c4(%s: tensor<f32>) {
    // expected-error @+1 {{'zero.update' op has no directions, which @muon takes}}
    zero.update @matrix scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    return
  }
}

// -----

// update_c4_other
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  train.optimizer @muon slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %g : f32
  } {newton_schulz = 5 : i64}
  zero.group @data
  zero.bucket @matrix on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  func.func @update_c4_other(%s: tensor<f32>, %d: tensor<4x32xf32>) {
    // expected-error @+1 {{'zero.update' op has directions, which @sgd does not take}}
    zero.update @matrix scale %s lr %s step %s finite %s directions (%d : tensor<4x32xf32>) decays [0.0] : tensor<f32>
    return
  }
}

// -----

// bucket_one_type
module {
  train.state @w : tensor<128xf32> {role = #train.role<parameter>, trained}
  train.state @v : tensor<128xf64> {role = #train.role<parameter>, trained}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  zero.group @data
  // expected-error @+1 {{'zero.bucket' op segment @v has element type 'f64', but the ones before it have 'f32'}}
  zero.bucket @x on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>, #zero.segment<@v, 128, 128>]}
}

// -----

// view_of_no_gather
func.func @view(%g: !zero.gathered) {
  // expected-error @+1 {{'zero.view' op expects the result of a 'zero.all_gather'}}
  %w = zero.view %g @w : tensor<128xf32>
  return
}

// -----

// all_reduce_types
module {
  zero.group @data
  func.func @all_reduce(%x: tensor<f32>) {
    // expected-error @+1 {{'zero.all_reduce' op expects results of the operands' types}}
    %s = zero.all_reduce @data (%x) : tensor<f32> -> tensor<f64>
    return
  }
}

// -----

// direction_c3: one a segment.
module {
  train.state @w : tensor<4x32xf32> {role = #train.role<parameter>, trained}
  train.optimizer @muon slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %g : f32
  } {newton_schulz = 5 : i64}
  zero.group @data
  zero.bucket @matrix on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @muon, segments = [#zero.segment<@w, 0, 128>]}
  func.func @direction(%s: tensor<f32>) {
    // expected-error @+1 {{'zero.direction' op expects one direction a segment: @matrix has 1, but got 2}}
    %d:2 = zero.direction @matrix scale %s finite %s : tensor<f32>, tensor<f32> -> tensor<4x32xf32>, tensor<4x32xf32>
    return
  }
}

// -----

// direction_of_none
module {
  train.state @w : tensor<128xf32> {role = #train.role<parameter>}
  zero.group @data
  zero.bucket @kept on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@w, 0, 128>]}
  func.func @direction(%s: tensor<f32>) {
    // expected-error @+1 {{'zero.direction' op is about @kept, which has no optimizer}}
    %d = zero.direction @kept scale %s finite %s : tensor<f32>, tensor<f32> -> tensor<128xf32>
    return
  }
}

// -----

// update_c3, the other way
module {
  train.state @w : tensor<128xf32> {role = #train.role<parameter>, trained}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32, %momentum: f32):
    train.yield %p : f32
  } {cycles_momentum}
  zero.group @data
  zero.bucket @b on @data parameters sharded gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 128>]}
  func.func @update(%s: tensor<f32>) {
    // expected-error @+1 {{'zero.update' op has no momentum, which @sgd takes}}
    zero.update @b scale %s lr %s step %s finite %s decays [0.0] : tensor<f32>
    return
  }
}
