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
