// RUN: zopt %s --split-input-file --zopt-add-random-state | FileCheck %s

// Samples are followed through products, heads, softmax and back: element p belongs to sample (p / inner) % batch. Keys and counters are made once; what is shared by all samples counts none.
// CHECK-DAG: train.state @zopt.seed : tensor<i64> {init = 0 : i64, role = #train.role<scalar>}
// CHECK-DAG: train.state @zopt.random_step : tensor<i64>
// CHECK-DAG: train.state @zopt.first_sample : tensor<i64>
// CHECK: func.func @forward(%{{.*}}: tensor<2x5x12xf32>
module attributes {train.level = "forward", train.micro_batch = 2 : i64} {
  train.state @w : tensor<12x12xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @p : tensor<1x5x12xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  func.func @forward(%x: tensor<2x5x12xf32> {train.name = "x"}) -> (tensor<2x5x12xf32> {train.name = "y"}) {
    // CHECK-DAG: %[[SEED:.*]] = train.read_state @zopt.seed
    // CHECK-DAG: %[[IOTA:.*]] = train.iota 0 : tensor<8xi64>
    // CHECK-DAG: %[[HIGH:.*]] = train.mul %[[SEED]]
    // CHECK-DAG: %[[KEYS:.*]] = train.add %[[HIGH]], %[[IOTA]]
    // CHECK-DAG: %[[STEP:.*]] = train.read_state @zopt.random_step
    // CHECK-DAG: %[[SHARED:.*]] = train.mul %[[STEP]]
    // CHECK-DAG: %[[FIRST:.*]] = train.read_state @zopt.first_sample
    // CHECK-DAG: %[[COUNTER:.*]] = train.add %[[SHARED]], %[[FIRST]]
    // CHECK-DAG: %[[SLICE:.*]] = train.slice %[[KEYS]] [3] [1] : tensor<8xi64> -> tensor<1xi64>
    // CHECK-DAG: %[[KEY:.*]] = train.reshape %[[SLICE]] : tensor<1xi64> -> tensor<i64>
    %w = train.read_state @w : tensor<12x12xf32>
    %rows = train.reshape %x : tensor<2x5x12xf32> -> tensor<10x12xf32>
    %q = train.matmul %rows, %w {transpose_rhs} : tensor<10x12xf32>, tensor<12x12xf32> -> tensor<10x12xf32>
    // [batch * length, width]
    // CHECK: train.dropout %{{.*}} random(%[[KEY]], %[[COUNTER]] : tensor<i64>, tensor<i64>) {id = 3 : i64, layout = array<i64: 1, 2, 60>,
    %a = train.dropout %q {id = 3 : i64, ratio = 0.1 : f64} : tensor<10x12xf32>
    %split = train.reshape %a : tensor<10x12xf32> -> tensor<2x5x3x4xf32>
    %heads = train.transpose %split [0, 2, 1, 3] : tensor<2x5x3x4xf32> -> tensor<2x3x5x4xf32>
    %scores = train.matmul %heads, %heads {transpose_rhs} : tensor<2x3x5x4xf32>, tensor<2x3x5x4xf32> -> tensor<2x3x5x5xf32>
    %p = train.softmax %scores : tensor<2x3x5x5xf32>
    // [batch, heads, length, length]
    // CHECK: train.dropout %{{.*}} {id = 4 : i64, layout = array<i64: 1, 2, 75>,
    %b = train.dropout %p {id = 4 : i64, ratio = 0.1 : f64} : tensor<2x3x5x5xf32>
    %o = train.matmul %b, %heads : tensor<2x3x5x5xf32>, tensor<2x3x5x4xf32> -> tensor<2x3x5x4xf32>
    %time = train.transpose %o [2, 0, 1, 3] : tensor<2x3x5x4xf32> -> tensor<5x2x3x4xf32>
    %merged = train.reshape %time : tensor<5x2x3x4xf32> -> tensor<5x2x12xf32>
    // [length, batch, width]
    // CHECK: train.dropout %{{.*}} {id = 5 : i64, layout = array<i64: 5, 2, 12>,
    %c = train.dropout %merged {id = 5 : i64, ratio = 0.1 : f64} : tensor<5x2x12xf32>
    %last = train.transpose %c [0, 2, 1] : tensor<5x2x12xf32> -> tensor<5x12x2xf32>
    // [length, width, batch]
    // CHECK: train.dropout %{{.*}} {id = 6 : i64, layout = array<i64: 60, 2, 1>,
    %d = train.dropout %last {id = 6 : i64, ratio = 0.1 : f64} : tensor<5x12x2xf32>
    %back = train.transpose %d [2, 0, 1] : tensor<5x12x2xf32> -> tensor<2x5x12xf32>
    %positions = train.read_state @p : tensor<1x5x12xf32>
    // Positions: one mask for all samples.
    // CHECK: train.dropout %{{.*}} random(%{{.*}}, %[[SHARED]] : tensor<i64>, tensor<i64>) {id = 7 : i64, layout = array<i64: 1, 1, 60>,
    %e = train.dropout %positions {id = 7 : i64, ratio = 0.1 : f64} : tensor<1x5x12xf32>
    %y = train.add %back, %e : tensor<2x5x12xf32>, tensor<1x5x12xf32> -> tensor<2x5x12xf32>
    return %y : tensor<2x5x12xf32>
  }
}

// -----

// Without a dropout nothing changes.
// CHECK: func.func @forward(%{{.*}}: tensor<2x4xf32>
// CHECK-NEXT: return
module attributes {train.level = "forward", train.micro_batch = 2 : i64} {
  func.func @forward(%x: tensor<2x4xf32> {train.name = "x"}) -> (tensor<2x4xf32> {train.name = "y"}) {
    return %x : tensor<2x4xf32>
  }
}

// -----

// Statistics of a batch do not mix its samples; numbers for one number that is spread over the micro-batch are those of its samples, for a constant all samples share them.
// CHECK-LABEL: func.func @forward(%{{.*}}: tensor<4x3x5xf32>
module attributes {train.level = "forward", train.micro_batch = 4 : i64} {
  train.state @g : tensor<3x1xf32> {role = #train.role<parameter>, trained, init = 1.0 : f32}
  func.func @forward(%x: tensor<4x3x5xf32> {train.name = "x"}) -> (tensor<4x3x5xf32> {train.name = "y"}) {
    %g = train.read_state @g : tensor<3x1xf32>
    %mean, %variance = train.batch_statistics %x : tensor<4x3x5xf32> -> tensor<3xf32>
    %m = train.reshape %mean : tensor<3xf32> -> tensor<3x1xf32>
    %v = train.reshape %variance : tensor<3xf32> -> tensor<3x1xf32>
    %norm = train.batch_norm %x mean %m variance %v gamma %g beta %g {epsilon = 1.0e-05 : f64, training} : tensor<4x3x5xf32>, tensor<3x1xf32>, tensor<3x1xf32>
    // CHECK: train.read_state @zopt.random_step
    // CHECK: %[[SHARED:.*]] = train.mul
    // CHECK: %[[COUNTER:.*]] = train.add %[[SHARED]],
    // CHECK: train.dropout %{{.*}} random(%{{.*}}, %[[COUNTER]] : tensor<i64>, tensor<i64>) {id = 0 : i64, layout = array<i64: 1, 4, 15>,
    %a = train.dropout %norm {id = 0 : i64, ratio = 0.1 : f64} : tensor<4x3x5xf32>
    %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
    %samples = train.broadcast %zero : tensor<f32> -> tensor<4x1x1xf32>
    // CHECK: train.uniform %{{.*}} random(%{{.*}}, %[[COUNTER]] : tensor<i64>, tensor<i64>) {id = 1 : i64, layout = array<i64: 1, 4, 1>}
    %u = train.uniform %samples {id = 1 : i64} : tensor<4x1x1xf32> -> tensor<4x1x1xf32>
    %all = train.constant dense<0.0> : tensor<3x5xf32> : tensor<3x5xf32>
    // CHECK: train.normal %{{.*}} random(%{{.*}}, %[[SHARED]] : tensor<i64>, tensor<i64>) {id = 2 : i64, layout = array<i64: 1, 1, 15>}
    %n = train.normal %all {id = 2 : i64} : tensor<3x5xf32> -> tensor<3x5xf32>
    %b = train.mul %a, %u : tensor<4x3x5xf32>, tensor<4x1x1xf32> -> tensor<4x3x5xf32>
    %y = train.add %b, %n : tensor<4x3x5xf32>, tensor<3x5xf32> -> tensor<4x3x5xf32>
    return %y : tensor<4x3x5xf32>
  }
}

// -----

// The same of a micro-batch of one.
module attributes {train.level = "forward", train.micro_batch = 1 : i64} {
  func.func @forward(%x: tensor<1x3x5xf32> {train.name = "x"}) -> (tensor<1x3x5xf32> {train.name = "y"}) {
    // CHECK: train.read_state @zopt.first_sample
    // CHECK-NEXT: %[[COUNTER:.*]] = train.add
    %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
    %samples = train.broadcast %zero : tensor<f32> -> tensor<1x1x1xf32>
    // CHECK: train.uniform %{{.*}} random(%{{.*}}, %[[COUNTER]] : tensor<i64>, tensor<i64>) {id = 0 : i64, layout = array<i64: 1, 1, 1>}
    %u = train.uniform %samples {id = 0 : i64} : tensor<1x1x1xf32> -> tensor<1x1x1xf32>
    %y = train.mul %x, %u : tensor<1x3x5xf32>, tensor<1x1x1xf32> -> tensor<1x3x5xf32>
    return %y : tensor<1x3x5xf32>
  }
}
