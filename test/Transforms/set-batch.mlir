// RUN: zopt %s --zopt-set-batch="grad-accum=2 mode=gradient" | FileCheck %s --check-prefix=ACCUM
// RUN: zopt %s --zopt-set-batch="global-batch=12" | FileCheck %s --check-prefix=GLOBAL
// RUN: zopt %s --zopt-set-batch="grad-accum=3 global-batch=24" | FileCheck %s --check-prefix=BOTH
// RUN: not zopt %s --zopt-set-batch="global-batch=6" 2>&1 | FileCheck %s --check-prefix=INVALID

// What is given is written on the module; what is absent is left to specialization.
// ACCUM: module attributes {
// ACCUM-SAME: train.accum_steps = 2 : i64
// ACCUM-NOT: train.global_batch
// ACCUM-SAME: train.mode = "gradient"
// GLOBAL: module attributes {
// GLOBAL-NOT: train.accum_steps
// GLOBAL-SAME: train.global_batch = 12 : i64
// GLOBAL-SAME: train.mode = "train"
// BOTH: train.accum_steps = 3 : i64, train.global_batch = 24 : i64
// INVALID: error: global batch 6 is not divisible by micro-batch 4 times 1 micro-steps
module attributes {train.level = "forward", train.micro_batch = 4 : i64} {
  func.func @forward(%x: tensor<4x8xf32> {train.name = "x"}) -> (tensor<4x8xf32> {train.name = "y"}) {
    return %x : tensor<4x8xf32>
  }
}
