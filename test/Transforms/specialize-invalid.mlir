// RUN: zopt %s --zopt-specialize="world-size=4" -split-input-file -verify-diagnostics
// RUN: not zopt %S/record-settings.mlir --zopt-specialize="world-size=0" 2>&1 | FileCheck %s --check-prefix=NOBODY
// NOBODY: error: world-size is 0, but expects at least 1

// expected-error @+1 {{global batch 12 with micro-batch 2 does not divide by 4 ranks; it does by 3 or 6}}
module attributes {train.micro_batch = 2 : i64, train.global_batch = 12 : i64} {
}

// -----

// expected-error @+1 {{global batch 3 with micro-batch 1 does not divide by 4 ranks; it does by 3}}
module attributes {train.micro_batch = 1 : i64, train.global_batch = 3 : i64} {
}

// -----

// expected-error @+1 {{global batch 7 is not a multiple of micro-batch 2}}
module attributes {train.micro_batch = 2 : i64, train.global_batch = 7 : i64} {
}

// -----

// expected-error @+1 {{global batch 16 is micro-batch 2 x accumulation 4 x 2 ranks, but there are 4}}
module attributes {train.micro_batch = 2 : i64, train.accum_steps = 4 : i64, train.global_batch = 16 : i64} {
}

// -----

// expected-error @+1 {{is specialized for 2 ranks, but 4 are asked for}}
module attributes {train.micro_batch = 2 : i64, train.world_size = 2 : i64} {
}

// -----

// expected-error @+1 {{expects a positive micro-batch, accumulation and global batch, but got 0, 1 and 1}}
module attributes {train.micro_batch = 0 : i64} {
}
