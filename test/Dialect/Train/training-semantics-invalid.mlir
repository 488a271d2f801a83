// RUN: zopt %s --verify-diagnostics --split-input-file

func.func @ratio(%x: tensor<4x6xf32>) {
  // expected-error @below {{ratio is 1.000000e+00, expected at least 0 and below 1}}
  %y = train.dropout %x {id = 0 : i64, ratio = 1.0 : f64} : tensor<4x6xf32>
  return
}

// -----

func.func @numbers(%x: tensor<4x6xf32>) {
  // expected-error @below {{result is 'tensor<4x6xbf16>', expected f32 or f64 of the shape [4x6]}}
  %y = train.uniform %x {id = 0 : i64} : tensor<4x6xf32> -> tensor<4x6xbf16>
  return
}

// -----

func.func @id(%x: tensor<4x6xf32>) {
  // expected-error @below {{id is -1, expected 0 to 4294967295}}
  %y = train.dropout_mask %x {id = -1 : i64, ratio = 0.5 : f64} : tensor<4x6xf32> -> tensor<4x6xi1>
  return
}

// -----

func.func @layout_sizes(%x: tensor<4x6xf32>) {
  // expected-error @below {{layout is [0x6], expected three sizes of at least 1}}
  %y = train.dropout %x {id = 0 : i64, ratio = 0.5 : f64, layout = array<i64: 0, 6>} : tensor<4x6xf32>
  return
}

// -----

func.func @layout_elements(%x: tensor<4x6xf32>) {
  // expected-error @below {{layout [1x4x5] has 20 elements, but the input 24}}
  %y = train.dropout %x {id = 0 : i64, ratio = 0.5 : f64, layout = array<i64: 1, 4, 5>} : tensor<4x6xf32>
  return
}

// -----

func.func @layout_axes(%x: tensor<4x6xf32>) {
  // expected-error @below {{layout [3x2x4] does not divide the axes of [4x6]}}
  %y = train.dropout %x {id = 0 : i64, ratio = 0.5 : f64, layout = array<i64: 3, 2, 4>} : tensor<4x6xf32>
  return
}

// -----

func.func @no_layout(%x: tensor<4x6xf32>, %k: tensor<i64>) {
  // expected-error @below {{has a key and a counter, but no layout}}
  %y = train.dropout %x random(%k, %k : tensor<i64>, tensor<i64>) {id = 0 : i64, ratio = 0.5 : f64} : tensor<4x6xf32>
  return
}

// -----

func.func @one_random(%x: tensor<4x6xf32>, %k: tensor<i64>) {
  // expected-error @below {{has 1 random operands, expected a key and a counter}}
  %y = train.dropout %x random(%k : tensor<i64>) {id = 0 : i64, ratio = 0.5 : f64, layout = array<i64: 1, 4, 6>} : tensor<4x6xf32>
  return
}

// -----

func.func @random_type(%x: tensor<4x6xf32>, %k: tensor<i32>) {
  // expected-error @below {{expects i64 scalars for the key and the counter, but got 'tensor<i32>'}}
  %y = train.dropout %x random(%k, %k : tensor<i32>, tensor<i32>) {id = 0 : i64, ratio = 0.5 : f64, layout = array<i64: 1, 4, 6>} : tensor<4x6xf32>
  return
}

// -----

func.func @mask_shape(%x: tensor<4x6xf32>) {
  // expected-error @below {{result has shape [6x4], expected [4x6]}}
  %y = train.dropout_mask %x {id = 0 : i64, ratio = 0.5 : f64} : tensor<4x6xf32> -> tensor<6x4xi1>
  return
}

// -----

func.func @no_channels(%x: tensor<4xf32>) {
  // expected-error @below {{input has shape [4], which has no axis of channels}}
  %m, %v = train.batch_statistics %x : tensor<4xf32> -> tensor<4xf32>
  return
}

// -----

func.func @statistics(%x: tensor<2x3x4xf32>) {
  // expected-error @below {{mean has shape [4], expected [3]}}
  %m, %v = train.batch_statistics %x : tensor<2x3x4xf32> -> tensor<4xf32>
  return
}

// -----

func.func @gamma(%x: tensor<2x3x4xf32>, %m: tensor<3x1xf32>, %g: tensor<3xf32>) {
  // expected-error @below {{gamma has shape [3], expected [3x1]}}
  %y = train.batch_norm %x mean %m variance %m gamma %g beta %g {epsilon = 1.0e-5 : f64} : tensor<2x3x4xf32>, tensor<3x1xf32>, tensor<3xf32>
  return
}

// -----

func.func @synchronized(%x: tensor<2x3x4xf32>, %m: tensor<3x1xf32>) {
  // expected-error @below {{is synchronized, but not in training}}
  %y = train.batch_norm %x mean %m variance %m gamma %m beta %m {epsilon = 1.0e-5 : f64, synchronized} : tensor<2x3x4xf32>, tensor<3x1xf32>, tensor<3x1xf32>
  return
}

// -----

func.func @sums(%x: tensor<2x3x4xf32>, %m: tensor<3x1xf32>) {
  // expected-error @below {{has 1 sums, expected none or two}}
  %y = train.batch_norm_grad %x mean %m variance %m gamma %m cotangent %x sums(%m : tensor<3x1xf32>) {epsilon = 1.0e-5 : f64, count = 8.0 : f64} : tensor<2x3x4xf32>, tensor<3x1xf32>, tensor<3x1xf32>
  return
}

// -----

module {
  train.state @w : tensor<3xf32> {role = #train.role<parameter>, init = 0.0 : f32}
  func.func @average(%v: tensor<3xf32>) {
    // expected-error @below {{moves @w, which is no buffer}}
    train.running_average @w, %v {momentum = 0.9 : f64} : tensor<3xf32>
    return
  }
}

// -----

module {
  train.state @r : tensor<4xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  func.func @average(%v: tensor<3xf32>) {
    // expected-error @below {{moves @r of shape [4] by [3]}}
    train.running_average @r, %v {momentum = 0.9 : f64} : tensor<3xf32>
    return
  }
}

// -----

module {
  train.state @r : tensor<3xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  func.func @average(%v: tensor<3xf32>) {
    // expected-error @below {{momentum is 1.500000e+00, expected 0 to 1}}
    train.running_average @r, %v {momentum = 1.5 : f64} : tensor<3xf32>
    return
  }
}

// -----

func.func @sums(%x: tensor<2x3x4xf32>, %m: tensor<3x1xf32>, %s: tensor<3xf32>) {
  // expected-error @below {{has a sum of 'tensor<3xf32>', expected 'tensor<3x1xf32>'}}
  %y = train.batch_norm_grad %x mean %m variance %m gamma %m cotangent %x sums(%m, %s : tensor<3x1xf32>, tensor<3xf32>) {epsilon = 1.0e-5 : f64, count = 8.0 : f64} : tensor<2x3x4xf32>, tensor<3x1xf32>, tensor<3x1xf32>
  return
}

// -----

func.func @sample(%x: tensor<65536x65536x2xf32>) {
  // expected-error @below {{has 8589934592 elements a sample, expected fewer than 4294967296}}
  %y = train.dropout %x {id = 0 : i64, layout = array<i64: 1, 1, 8589934592>, ratio = 0.1 : f64} : tensor<65536x65536x2xf32>
  return
}

// -----

func.func @normal_shape(%x: tensor<4x6xf32>) {
  // expected-error @below {{result is 'tensor<6x4xf32>', expected f32 or f64 of the shape}}
  %y = train.normal %x {id = 0 : i64} : tensor<4x6xf32> -> tensor<6x4xf32>
  return
}

// -----

func.func @normal_id(%x: tensor<4x6xf32>) {
  // expected-error @below {{id is -1, expected 0 to 4294967295}}
  %y = train.normal %x {id = -1 : i64} : tensor<4x6xf32> -> tensor<4x6xf32>
  return
}
