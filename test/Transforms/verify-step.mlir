// RUN: zopt %s --zopt-verify-step --split-input-file --verify-diagnostics

// expected-error@+1 {{module is not at the step level: train.level is 'forward'}}
module attributes {train.level = "forward"} {
  func.func @micro_step() {
    return
  }
  func.func @apply_step() {
    return
  }
}

// -----

// expected-error@+1 {{module has no @apply_step}}
module attributes {train.level = "step"} {
  func.func @micro_step() {
    return
  }
}

// -----

module attributes {train.level = "step"} {
  train.state @zopt.loss_sum : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.count : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.lr : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.step : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.loss : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.norm : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.finite : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.gradient_scale : tensor<f32> {role = #train.role<scalar>}
  // expected-error@+2 {{is trained but @micro_step accumulates no gradient for it}}
  // expected-error@+1 {{is trained but @apply_step does not update it}}
  train.state @forgotten : tensor<2xf32> {role = #train.role<parameter>, trained}
  train.state @w : tensor<2xf32> {role = #train.role<parameter>, trained}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  func.func @micro_step(%s: tensor<f32> {train.name = "s"}) {
    %w = train.read_state @w : tensor<2xf32>
    // expected-error@+1 {{accumulates a gradient before train.backward}}
    train.accumulate @w, %w : tensor<2xf32>
    train.backward %s seed %s : tensor<f32>
    // expected-error@+1 {{begins backward a second time}}
    train.backward %s seed %s : tensor<f32>
    // expected-error@+1 {{adds to @w a second time}}
    train.accumulate @w, %w : tensor<2xf32>
    // expected-error@+1 {{does not belong in @micro_step}}
    train.write_state @zopt.loss, %s : tensor<f32>
    return
  }
  // expected-error@+1 {{@apply_step has 0 train.gradient_norm, expected 1}}
  func.func @apply_step() {
    %s = train.read_state @zopt.lr : tensor<f32>
    train.update @w using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    // expected-error@+1 {{updates @w a second time}}
    train.update @w using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    // expected-error@+1 {{does not belong in @apply_step}}
    train.accumulate @zopt.count, %s : tensor<f32>
    return
  }
}

// -----

// The states that the runtime sets and reads.
// expected-error@+8 {{module has no scalar state 'zopt.loss_sum'}}
// expected-error@+7 {{module has no scalar state 'zopt.count'}}
// expected-error@+6 {{module has no scalar state 'zopt.lr'}}
// expected-error@+5 {{module has no scalar state 'zopt.step'}}
// expected-error@+4 {{module has no scalar state 'zopt.loss'}}
// expected-error@+3 {{module has no scalar state 'zopt.norm'}}
// expected-error@+2 {{module has no scalar state 'zopt.finite'}}
// expected-error@+1 {{module has no scalar state 'zopt.gradient_scale'}}
module attributes {train.level = "step"} {
  // expected-error@+1 {{@micro_step has no train.backward}}
  func.func @micro_step() {
    return
  }
  func.func @apply_step() {
    %n = train.gradient_norm : tensor<f32>
    return
  }
}

// -----

// The passes' own result passes the gate.
module attributes {train.level = "step", train.mode = "gradient"} {
  train.state @zopt.loss_sum : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.count : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.lr : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.step : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.loss : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.norm : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.finite : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.gradient_scale : tensor<f32> {role = #train.role<scalar>}
  train.state @w : tensor<2xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%s: tensor<f32> {train.name = "s"}) {
    train.backward %s seed %s : tensor<f32>
    %w = train.read_state @w : tensor<2xf32>
    train.accumulate @w, %w : tensor<2xf32>
    return
  }
  func.func @apply_step() {
    %n = train.gradient_norm : tensor<f32>
    return
  }
}

// -----

// Evaluation reads what a micro-step reads, gives back scalars, and changes nothing.
module attributes {train.level = "step", train.mode = "gradient"} {
  train.state @zopt.loss_sum : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.count : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.lr : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.step : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.loss : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.norm : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.finite : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.gradient_scale : tensor<f32> {role = #train.role<scalar>}
  train.state @w : tensor<2xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%s: tensor<f32> {train.name = "s"}) {
    train.backward %s seed %s : tensor<f32>
    %w = train.read_state @w : tensor<2xf32>
    train.accumulate @w, %w : tensor<2xf32>
    return
  }
  func.func @apply_step() {
    %n = train.gradient_norm : tensor<f32>
    return
  }
  func.func @eval_step(%s: tensor<f32> {train.name = "s"}) -> (tensor<f32> {train.name = "zopt.eval_loss_sum"}) {
    return %s : tensor<f32>
  }
}

// -----

module attributes {train.level = "step", train.mode = "gradient"} {
  train.state @zopt.loss_sum : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.count : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.lr : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.step : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.loss : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.norm : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.finite : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.gradient_scale : tensor<f32> {role = #train.role<scalar>}
  train.state @w : tensor<2xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%s: tensor<f32> {train.name = "s"}) {
    train.backward %s seed %s : tensor<f32>
    %w = train.read_state @w : tensor<2xf32>
    train.accumulate @w, %w : tensor<2xf32>
    return
  }
  func.func @apply_step() {
    %n = train.gradient_norm : tensor<f32>
    return
  }
  // expected-error@+2 {{argument 0 has another train.name than that of @micro_step}}
  // expected-error@+1 {{result 0 of @eval_step is no float scalar with a train.name}}
  func.func @eval_step(%t: tensor<f32> {train.name = "t"}) -> tensor<f32> {
    // expected-error@+1 {{does not belong in @eval_step}}
    train.accumulate @zopt.count, %t : tensor<f32>
    return %t : tensor<f32>
  }
}

// -----

module attributes {train.level = "step", train.mode = "gradient"} {
  train.state @zopt.loss_sum : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.count : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.lr : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.step : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.loss : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.norm : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.finite : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.gradient_scale : tensor<f32> {role = #train.role<scalar>}
  train.state @w : tensor<2xf32> {role = #train.role<parameter>, trained}
  func.func @micro_step(%s: tensor<f32> {train.name = "s"}) {
    train.backward %s seed %s : tensor<f32>
    %w = train.read_state @w : tensor<2xf32>
    train.accumulate @w, %w : tensor<2xf32>
    return
  }
  func.func @apply_step() {
    %n = train.gradient_norm : tensor<f32>
    return
  }
  // expected-error@+1 {{@eval_step has other arguments than @micro_step}}
  func.func @eval_step() {
    return
  }
}

// -----

// A gradient is not applied.
module attributes {train.level = "step", train.mode = "gradient"} {
  train.state @zopt.loss_sum : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.count : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.lr : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.step : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.loss : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.norm : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.finite : tensor<f32> {role = #train.role<scalar>}
  train.state @zopt.gradient_scale : tensor<f32> {role = #train.role<scalar>}
  // expected-error@+1 {{is updated, but the mode is gradient}}
  train.state @w : tensor<2xf32> {role = #train.role<parameter>, trained}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  func.func @micro_step(%s: tensor<f32> {train.name = "s"}) {
    train.backward %s seed %s : tensor<f32>
    %w = train.read_state @w : tensor<2xf32>
    train.accumulate @w, %w : tensor<2xf32>
    return
  }
  func.func @apply_step() {
    %n = train.gradient_norm : tensor<f32>
    train.update @w using @sgd scale %n lr %n step %n finite %n decay 0.0 : tensor<f32>
    return
  }
  // expected-error@+1 {{@eval_step has 2 blocks, expected 1}}
  func.func @eval_step(%s: tensor<f32> {train.name = "s"}) {
    cf.br ^next
  ^next:
    return
  }
}
