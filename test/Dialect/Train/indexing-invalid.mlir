// RUN: zopt %s --verify-diagnostics --split-input-file

func.func @f(%data: tensor<5x3xf32>, %i: tensor<2x2xi64>, %updates: tensor<4x3xf32>) {
  // expected-error@+1 {{has data of rank 2 and indices of rank 2, expected at least 1 and 1}}
  %0 = train.scatter none %data, %i, %updates : tensor<5x3xf32>, tensor<2x2xi64>, tensor<4x3xf32>
  return
}

// -----

func.func @f(%data: tensor<0x3xf32>, %i: tensor<4xi64>, %updates: tensor<4x3xf32>) {
  // expected-error@+1 {{has 4 indices, but data has no row}}
  %0 = train.scatter none %data, %i, %updates : tensor<0x3xf32>, tensor<4xi64>, tensor<4x3xf32>
  return
}

// -----

func.func @f(%data: tensor<5x3xf32>, %i: tensor<4xi64>, %updates: tensor<4x2xf32>) {
  // expected-error@+1 {{updates are 'tensor<4x2xf32>', expected 'tensor<4x3xf32>'}}
  %0 = train.scatter none %data, %i, %updates : tensor<5x3xf32>, tensor<4xi64>, tensor<4x2xf32>
  return
}

// -----

func.func @f(%data: tensor<5xi1>, %i: tensor<4xi64>, %updates: tensor<4xi1>) {
  // expected-error@+1 {{has no reduction add of i1}}
  %0 = train.scatter add %data, %i, %updates : tensor<5xi1>, tensor<4xi64>, tensor<4xi1>
  return
}

// -----

func.func @f(%x: tensor<2x7xf32>) {
  // expected-error@+1 {{takes 'tensor<2x7xf32>' to values 'tensor<2x8xf32>' and indices 'tensor<2x8xi64>'}}
  %values, %indices = train.top_k %x : tensor<2x7xf32> -> tensor<2x8xf32>, tensor<2x8xi64>
  return
}

// -----

func.func @f(%x: tensor<2x7xf32>) {
  // expected-error@+1 {{has values of 'f32' and indices of 'i32', expected 'f32' and i64}}
  %values, %indices = train.top_k %x : tensor<2x7xf32> -> tensor<2x3xf32>, tensor<2x3xi32>
  return
}

// -----

func.func @f(%x: tensor<20000000xf32>) {
  // expected-error@+1 {{at most 16777216 elements in the last}}
  %values, %indices = train.top_k %x : tensor<20000000xf32> -> tensor<3xf32>, tensor<3xi64>
  return
}

// -----

func.func @f(%x: tensor<f32>) {
  // expected-error@+1 {{selects from 'tensor<f32>', expected at least one axis}}
  %values, %indices = train.top_k %x : tensor<f32> -> tensor<1xf32>, tensor<1xi64>
  return
}
