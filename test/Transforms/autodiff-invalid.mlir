// RUN: zopt %s --zopt-autodiff --split-input-file --verify-diagnostics

// Every active op without a derivative is reported; the same op on values that no gradient flows through is none.
module {
  train.state @w : tensor<2x2xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%x: tensor<2x2xf32>, %seed: tensor<f32>) {
    %w = train.read_state @w : tensor<2x2xf32>
    // expected-error@+1 {{'train.softmax_grad' has no derivative, but the loss depends on trained parameters through it}}
    %a = train.softmax_grad %w, %x : tensor<2x2xf32>
    %b = train.softmax_grad %x, %x : tensor<2x2xf32>
    %c = train.add %a, %b : tensor<2x2xf32>, tensor<2x2xf32> -> tensor<2x2xf32>
    // expected-error@+1 {{'train.relu_grad' has no derivative, but the loss depends on trained parameters through it}}
    %d = train.relu_grad %c, %x : tensor<2x2xf32>
    %loss = train.reduce_sum %d [0, 1] : tensor<2x2xf32> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}

// -----

// A learned mask.
module {
  train.state @mask : tensor<3x3xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%q: tensor<1x1x3x2xf32>, %seed: tensor<f32>) {
    %m = train.read_state @mask : tensor<3x3xf32>
    // expected-error@+1 {{'train.attention' has no derivative for operand 3, but the loss depends on trained parameters through it}}
    %o, %lse = train.attention %q, %q, %q mask %m : tensor<3x3xf32> {scale = 1.0 : f64} : tensor<1x1x3x2xf32>, tensor<1x1x3x2xf32>, tensor<1x1x3x2xf32> -> tensor<1x1x3x2xf32>, tensor<1x1x3xf32>
    %loss = train.reduce_sum %o [0, 1, 2, 3] : tensor<1x1x3x2xf32> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}

// -----

// A loss made of a statistic.
module {
  train.state @w : tensor<3x2xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%seed: tensor<f32>) {
    %w = train.read_state @w : tensor<3x2xf32>
    // expected-error@+1 {{has no derivative through its result 'rstd'}}
    %n, %rstd = train.rms_norm %w {epsilon = 1.0e-5 : f64} : tensor<3x2xf32> -> tensor<3x2xf32>, tensor<3xf32>
    %loss = train.reduce_sum %rstd [0] : tensor<3xf32> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}

// -----

module {
  train.state @w : tensor<3xf32> {role = #train.role<parameter>}
  func.func @micro_step(%seed: tensor<f32>) {
    %w = train.read_state @w : tensor<3xf32>
    %loss = train.reduce_sum %w [0] : tensor<3xf32> -> tensor<f32>
    // expected-error@+1 {{the loss does not depend on any trained parameter}}
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}

// -----

module {
  // expected-error@+1 {{@micro_step has 0 train.backward, expected 1}}
  func.func @micro_step() {
    return
  }
}

// -----

// expected-error@+1 {{module has no @micro_step of one block}}
module {
}

// -----

// A loss made of the scores' sum.
module {
  train.state @w : tensor<1x1x3x2xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%seed: tensor<f32>) {
    %w = train.read_state @w : tensor<1x1x3x2xf32>
    // expected-error@+1 {{has no derivative through its result 'lse'}}
    %o, %lse = train.attention %w, %w, %w {scale = 1.0 : f64} : tensor<1x1x3x2xf32>, tensor<1x1x3x2xf32>, tensor<1x1x3x2xf32> -> tensor<1x1x3x2xf32>, tensor<1x1x3xf32>
    %loss = train.reduce_sum %lse [0, 1, 2] : tensor<1x1x3xf32> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}

// -----

// A loss made of a batch's mean.
module {
  train.state @w : tensor<2x3x4xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%seed: tensor<f32>) {
    %w = train.read_state @w : tensor<2x3x4xf32>
    // expected-error@+1 {{has no derivative through its results, but in a batch_norm in training}}
    %mean, %variance = train.batch_statistics %w : tensor<2x3x4xf32> -> tensor<3xf32>
    %loss = train.reduce_sum %mean [0] : tensor<3xf32> -> tensor<f32>
    train.backward %loss seed %seed : tensor<f32>
    return
  }
}
