// RUN: zopt %s --split-input-file --verify-diagnostics --zopt-add-random-state

module attributes {train.level = "forward", train.micro_batch = 4 : i64} {
  func.func @forward(%x: tensor<4x6xf32> {train.name = "x"}) -> (tensor<6xf32> {train.name = "y"}) {
    %s = train.reduce_sum %x [0] : tensor<4x6xf32> -> tensor<6xf32>
    // expected-error @below {{dropout of 'tensor<6xf32>' cannot tell the 4 samples of the micro-batch apart, which 'train.reduce_sum' mixes}}
    %y = train.dropout %s {id = 0 : i64, ratio = 0.5 : f64} : tensor<6xf32>
    return %y : tensor<6xf32>
  }
}

// -----

// A slice of an axis that holds samples and positions.
module attributes {train.level = "forward", train.micro_batch = 2 : i64} {
  func.func @forward(%x: tensor<2x5x3xf32> {train.name = "x"}) -> (tensor<8x3xf32> {train.name = "y"}) {
    %rows = train.reshape %x : tensor<2x5x3xf32> -> tensor<10x3xf32>
    %part = train.slice %rows [1, 0] [1, 1] : tensor<10x3xf32> -> tensor<8x3xf32>
    // expected-error @below {{cannot tell the 2 samples of the micro-batch apart, which 'train.slice' mixes}}
    %y = train.dropout %part {id = 0 : i64, ratio = 0.5 : f64} : tensor<8x3xf32>
    return %y : tensor<8x3xf32>
  }
}

// -----

// Samples against samples.
module attributes {train.level = "forward", train.micro_batch = 2 : i64} {
  func.func @forward(%x: tensor<2x3xf32> {train.name = "x"}) -> (tensor<2x2xf32> {train.name = "y"}) {
    %pairs = train.matmul %x, %x {transpose_rhs} : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x2xf32>
    %r = train.relu %pairs : tensor<2x2xf32>
    // expected-error @below {{which 'train.matmul' mixes}}
    %y = train.dropout %r {id = 0 : i64, ratio = 0.5 : f64} : tensor<2x2xf32>
    return %y : tensor<2x2xf32>
  }
}
