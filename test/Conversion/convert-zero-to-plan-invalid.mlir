// RUN: zopt %s --zopt-convert-zero-to-plan=threads=1 -split-input-file -verify-diagnostics
// RUN: echo 'module attributes {train.world_size = 2 : i64} {}' > %t
// RUN: not zopt %t --zopt-convert-zero-to-plan=target=tpu 2>&1 | FileCheck %s --check-prefix=TARGET
// RUN: not zopt %t --pass-pipeline='builtin.module(zopt-convert-zero-to-plan{target=cuda chip=sm_70})' 2>&1 | FileCheck %s --check-prefix=CHIP
// RUN: not zopt %t --zopt-convert-zero-to-plan=world-size=3 2>&1 | FileCheck %s --check-prefix=RANKS
// RUN: not zopt %t --zopt-convert-zero-to-plan=threads=-1 2>&1 | FileCheck %s --check-prefix=THREADS
// TARGET: error: target is 'tpu', but expects cpu or cuda
// CHIP: error: chip is 'sm_70', but expects sm_80 or sm_90
// RANKS: error: is specialized for 2 ranks, but world-size is 3
// THREADS: error: threads is -1, but expects at least 0

// expected-error@+1 {{is not specialized: expects train.world_size}}
module {
}

// -----

// expected-error@+1 {{has no function to convert}}
module attributes {train.world_size = 2 : i64} {
}

// -----

module attributes {train.world_size = 2 : i64} {
  // expected-error@+1 {{'func.func' op expects one block}}
  func.func @forward() {
    cf.br ^next
  ^next:
    return
  }
}

// -----

module attributes {train.world_size = 2 : i64} {
  // expected-error@+1 {{'func.func' op argument 0 has no train.name}}
  func.func @forward(%x: tensor<4xf32>) {
    return
  }
}

// -----

// A tensor of the data has one type in all functions.
module attributes {train.world_size = 2 : i64} {
  func.func @micro_step(%x: tensor<4xf32> {train.name = "x"}) {
    return
  }
  // expected-error@+1 {{'func.func' op argument 0 is 'x' of 'tensor<8xf32>', which another function takes as 'tensor<4xf32>'}}
  func.func @eval_step(%x: tensor<8xf32> {train.name = "x"}) {
    return
  }
}

// -----

module attributes {train.world_size = 2 : i64} {
  func.func @forward(%x: tensor<4xf32> {train.name = "x"}) -> (tensor<4xf32> {train.name = "y"}) {
    // expected-error@+1 {{'arith.addf' op has no place in a final plan}}
    %y = arith.addf %x, %x : tensor<4xf32>
    return %y : tensor<4xf32>
  }
}

// -----

module attributes {train.world_size = 2 : i64} {
  func.func @forward(%x: tensor<4xf32> {train.name = "x"}) -> tensor<4xf32> {
    // expected-error@+1 {{'func.return' op gives back result 0, which has no train.name}}
    return %x : tensor<4xf32>
  }
}

// -----

module attributes {train.world_size = 2 : i64} {
  train.state @w : tensor<4xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots ["m"] {
  ^bb0(%p: f32, %g: f32, %m: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p, %m : f32, f32
  }
  zero.group @data
  zero.bucket @b on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@w, 0, 4>]}
  train.state @w.m : tensor<4xf32> {role = #train.role<optimizer>, init = 0.0 : f32}
  func.func @forward() -> (tensor<4xf32> {train.name = "y"}) {
    // expected-error@+1 {{'train.read_state' op reads @w.m, which is in an optimizer's slot}}
    %m = train.read_state @w.m : tensor<4xf32>
    return %m : tensor<4xf32>
  }
}

// -----

module attributes {train.world_size = 2 : i64} {
  train.state @w : tensor<4xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  zero.group @data
  zero.bucket @b on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@w, 0, 4>]}
  func.func @forward(%x: tensor<4xf32> {train.name = "x"}) {
    // expected-error@+1 {{'train.write_state' op sets @w, which lives in a bucket}}
    train.write_state @w, %x : tensor<4xf32>
    return
  }
}

// -----

module attributes {train.world_size = 2 : i64} {
  train.state @w : tensor<4xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  zero.group @data
  zero.bucket @b on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@w, 0, 4>]}
  func.func @forward(%x: tensor<4xf32> {train.name = "x"}) {
    // expected-error@+1 {{'train.accumulate' op adds to @w, which lives in a bucket}}
    train.accumulate @w, %x : tensor<4xf32>
    return
  }
}

// -----

module attributes {train.world_size = 2 : i64} {
  train.state @s : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  func.func @forward(%x: tensor<f64> {train.name = "x"}) {
    // expected-error@+1 {{'train.accumulate' op adds 'tensor<f64>' to a state of another type}}
    train.accumulate @s, %x : tensor<f64>
    return
  }
}

// -----

// One sum travels in one type.
module attributes {train.world_size = 2 : i64} {
  zero.group @data
  func.func @forward(%x: tensor<f32> {train.name = "x"}, %y: tensor<f64> {train.name = "y"}) {
    // expected-error@+1 {{'zero.all_reduce' op expects scalars of one type, but got 'f32' and 'f64'}}
    %s:2 = zero.all_reduce @data (%x, %y) : tensor<f32>, tensor<f64> -> tensor<f32>, tensor<f64>
    return
  }
}

// -----

// A mask is decomposed before.
module attributes {train.world_size = 2 : i64} {
  func.func @forward(%q: tensor<2x4x3x8xf32> {train.name = "q"}, %m: tensor<3x3xi1> {train.name = "m"}) -> (tensor<2x4x3x8xf32> {train.name = "o"}) {
    // expected-error@+1 {{'train.attention' op has a mask, which the target's library does not take}}
    %o, %lse = train.attention %q, %q, %q mask %m : tensor<3x3xi1> {scale = 1.0 : f64} : tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32> -> tensor<2x4x3x8xf32>, tensor<2x4x3xf32>
    return %o : tensor<2x4x3x8xf32>
  }
}
