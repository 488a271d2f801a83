// RUN: zopt %s --zopt-assign-placement="stage=0 bucket-bytes=1024" | FileCheck %s --check-prefixes=CHECK,STAGE0
// RUN: zopt %s --zopt-assign-placement="stage=1 bucket-bytes=1024" | FileCheck %s --check-prefixes=CHECK,STAGE1
// RUN: zopt %s --zopt-assign-placement="stage=2 bucket-bytes=1024" | FileCheck %s --check-prefixes=CHECK,STAGE2
// RUN: zopt %s --zopt-assign-placement="stage=3 bucket-bytes=1024" | FileCheck %s --check-prefixes=CHECK,STAGE3
// RUN: zopt %s --zopt-assign-placement="stage=3 bucket-bytes=1024 persist-bytes=68" | FileCheck %s --check-prefix=PERSIST
// RUN: zopt %s --zopt-assign-placement="stage=3" | FileCheck %s --check-prefix=AUTO
// RUN: not zopt %s --zopt-assign-placement="stage=4" 2>&1 | FileCheck %s --check-prefix=ERROR
// RUN: not zopt %s --zopt-assign-placement="bucket-bytes=many" 2>&1 | FileCheck %s --check-prefix=BYTES
// RUN: not zopt %S/record-settings.mlir --zopt-assign-placement 2>&1 | FileCheck %s --check-prefix=EMPTY
// RUN: not zopt %s --zopt-assign-placement --zopt-assign-placement 2>&1 | FileCheck %s --check-prefix=AGAIN

// EMPTY: error: expects a function @micro_step or @forward
// AGAIN: error: has buckets already
// ERROR: error: stage is 4, but expects 0 to 3
// BYTES: error: bucket-bytes is 'many', but expects auto or a positive number

// CHECK: zero.group @data

// The embedding is used first and last, with more than a bucket in between: it is alone.
// STAGE0: zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@embedding, 0, 160>]}
// STAGE1: zero.bucket @bucket0 on @data parameters replicated gradients replicated optimizer sharded
// STAGE2: zero.bucket @bucket0 on @data parameters replicated gradients sharded optimizer sharded
// STAGE3: zero.bucket @bucket0 on @data parameters sharded gradients sharded optimizer sharded
// The frozen table has no optimizer and, below stage 3, is whole.
// STAGE0: zero.bucket @bucket1 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@table, 0, 16>]}
// STAGE2: zero.bucket @bucket1 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen,
// STAGE3: zero.bucket @bucket1 on @data parameters sharded gradients replicated optimizer replicated compute f32 gradient f32 {frozen,
// What is larger than a bucket is alone; others go together in the order of their first use, not of their states, at multiples of 128.
// CHECK: zero.bucket @bucket2 on @data {{.*}} segments = [#zero.segment<@large, 0, 272>]
// CHECK: zero.bucket @bucket3 on @data {{.*}} segments = [#zero.segment<@bias, 0, 17>, #zero.segment<@scale, 128, 17>, #zero.segment<@projection, 256, 170>]
// A parameter that nothing uses has a place too: its optimizer decays it.
// CHECK: zero.bucket @bucket4 on @data {{.*}} segments = [#zero.segment<@unused, 0, 100>]
// CHECK-NOT: zero.bucket

// Up to 68 bytes stay replicated, with sharded state.
// PERSIST: zero.bucket @bucket1 on @data parameters replicated gradients replicated optimizer replicated compute f32 gradient f32 {frozen, segments = [#zero.segment<@table, 0, 16>]}
// PERSIST: zero.bucket @bucket3 on @data parameters replicated gradients sharded optimizer sharded compute f32 gradient f32 {optimizer = @sgd, segments = [#zero.segment<@bias, 0, 17>, #zero.segment<@scale, 128, 17>]}
// PERSIST: zero.bucket @bucket4 on @data parameters sharded {{.*}} segments = [#zero.segment<@projection, 0, 170>]

// An eighth of the parameters' 2940 bytes holds the two small ones only.
// AUTO: zero.bucket @bucket3 on @data {{.*}} segments = [#zero.segment<@bias, 0, 17>, #zero.segment<@scale, 128, 17>]
// AUTO: zero.bucket @bucket4 on @data {{.*}} segments = [#zero.segment<@projection, 0, 170>]

module attributes {train.level = "step", train.mode = "train"} {
  train.state @unused : tensor<100xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @projection : tensor<17x10xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @scale : tensor<17xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @bias : tensor<17xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @large : tensor<16x17xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @embedding : tensor<10x16xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @table : tensor<16xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  func.func @micro_step(%tokens: tensor<4xi64>, %dp: tensor<17x10xf32>, %dv: tensor<17xf32>, %dl: tensor<16x17xf32>, %de: tensor<10x16xf32>) {
    %projection = train.read_state @projection : tensor<17x10xf32>
    %scale = train.read_state @scale : tensor<17xf32>
    %bias = train.read_state @bias : tensor<17xf32>
    %large = train.read_state @large : tensor<16x17xf32>
    %embedding = train.read_state @embedding : tensor<10x16xf32>
    %table = train.read_state @table : tensor<16xf32>
    %x = train.gather %embedding, %tokens 0 : tensor<10x16xf32>, tensor<4xi64> -> tensor<4x16xf32>
    %t = train.add %x, %table : tensor<4x16xf32>, tensor<16xf32> -> tensor<4x16xf32>
    %h = train.matmul %t, %large bias %bias : tensor<17xf32> : tensor<4x16xf32>, tensor<16x17xf32> -> tensor<4x17xf32>
    %s = train.mul %h, %scale : tensor<4x17xf32>, tensor<17xf32> -> tensor<4x17xf32>
    %p = train.matmul %s, %projection : tensor<4x17xf32>, tensor<17x10xf32> -> tensor<4x10xf32>
    %y = train.matmul %p, %embedding : tensor<4x10xf32>, tensor<10x16xf32> -> tensor<4x16xf32>
    train.accumulate @projection, %dp : tensor<17x10xf32>
    train.accumulate @scale, %dv : tensor<17xf32>
    train.accumulate @bias, %dv : tensor<17xf32>
    train.accumulate @large, %dl : tensor<16x17xf32>
    train.accumulate @embedding, %de : tensor<10x16xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    train.update @projection using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    train.update @scale using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    train.update @bias using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    train.update @large using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    train.update @embedding using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    train.update @unused using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    return
  }
}
