// RUN: zopt %s --zopt-add-evaluation --verify-diagnostics --split-input-file

// expected-error@+1 {{module has no @micro_step of one block to evaluate by}}
module {
  func.func @forward() { return }
}

// -----

module {
  train.state @zopt.count : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  // expected-error@+1 {{@micro_step does not end in one train.backward: evaluation is derived before the backward graph is}}
  func.func @micro_step(%l: tensor<f32>) {
    train.backward %l seed %l : tensor<f32>
    train.accumulate @zopt.count, %l : tensor<f32>
    return
  }
}

// -----

module {
  func.func @micro_step(%l: tensor<f32>) {
    train.backward %l seed %l : tensor<f32>
    return
  }
  // expected-error@-5 {{module has @eval_step already}}
  func.func @eval_step() { return }
}

// -----

module {
  // expected-error@below {{@micro_step does not count its labels in 'zopt.count'}}
  func.func @micro_step(%l: tensor<f32>) {
    train.backward %l seed %l : tensor<f32>
    return
  }
}

// -----

module {
  train.state @zopt.count : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  func.func @micro_step(%x: tensor<2x3x4xf32>, %n: tensor<f32>) {
    // expected-error@+1 {{evaluation normalizes by running averages, but this graph keeps none of these statistics}}
    %mean, %variance = train.batch_statistics %x : tensor<2x3x4xf32> -> tensor<3xf32>
    %m = train.reshape %mean : tensor<3xf32> -> tensor<3x1xf32>
    %y = train.batch_norm %x mean %m variance %m gamma %m beta %m {epsilon = 1.0e-5 : f64, training} : tensor<2x3x4xf32>, tensor<3x1xf32>, tensor<3x1xf32>
    %l = train.reduce_sum %y [0, 1, 2] : tensor<2x3x4xf32> -> tensor<f32>
    train.accumulate @zopt.count, %n : tensor<f32>
    train.backward %l seed %l : tensor<f32>
    return
  }
}

// -----

module {
  train.state @zopt.count : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.state @r : tensor<3xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  train.state @r.movement : tensor<3xf32> {role = #train.role<scalar>, init = 0.0 : f32}
  func.func @micro_step(%v: tensor<3xf32>, %l: tensor<f32>) {
    // expected-error@+1 {{moves a running average by what is no distance from it}}
    train.accumulate @r.movement, %v : tensor<3xf32>
    train.accumulate @zopt.count, %l : tensor<f32>
    train.backward %l seed %l : tensor<f32>
    return
  }
}
