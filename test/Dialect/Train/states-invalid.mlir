// RUN: zopt %s --split-input-file --verify-diagnostics

// (C2) of state: the file exists.
// expected-error@+1 {{names no train.weight_file: @weights0}}
train.state @w : tensor<4xf32> {role = #train.role<parameter>, init = #train.weight<@weights0, 0, 16, f32>}

// -----

// (C2) of state: as many bytes.
train.weight_file @weights0 {path = "m.onnx", size = -1 : i64, fingerprint = ""}
// expected-error@+1 {{weight has 15 bytes, expected 16}}
train.state @w : tensor<4xf32> {role = #train.role<parameter>, init = #train.weight<@weights0, 0, 15, f32>}

// -----

train.weight_file @weights0 {path = "m.onnx", size = -1 : i64, fingerprint = ""}
// expected-error@+1 {{weight has offset -4}}
train.state @w : tensor<4xf32> {role = #train.role<parameter>, init = #train.weight<@weights0, -4, 16, f32>}

// -----

// (C3) of state.
// expected-error@+1 {{is trained but its role is buffer}}
train.state @w : tensor<4xf32> {role = #train.role<buffer>, trained}

// -----

// expected-error@+1 {{init is neither #train.weight nor a scalar: "zeros"}}
train.state @w : tensor<4xf32> {role = #train.role<buffer>, init = "zeros"}

// -----

// expected-error@+1 {{source_permutation has 1 entries for rank 2}}
train.state @w : tensor<4x4xf32> {role = #train.role<parameter>, source_permutation = array<i64: 0>}

// -----

// (C1) of optimizer.
// expected-error@+1 {{body has 5 arguments, expected 6}}
train.optimizer @sgd slots ["momentum"] {
^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
  train.yield %p : f32
}

// -----

// expected-error@+1 {{body's arguments are not of one float type}}
train.optimizer @sgd slots [] {
^bb0(%p: f32, %g: f64, %lr: f32, %step: f32, %decay: f32):
  train.yield %p : f32
}

// -----

// (C2) of optimizer.
// expected-error@+1 {{yields 2 values, expected 1}}
train.optimizer @sgd slots [] {
^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
  train.yield %p, %g : f32, f32
}

// -----

// expected-error@+1 {{yields 1 values, expected 2}}
train.optimizer @lamb slots [] {
^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
  train.yield %g : f32
} {trust_ratio = array<f64: 0.01, 10.0>}

// -----

// (C3) of optimizer.
// expected-error@+1 {{trust ratio is not two numbers, 0 < least <= most}}
train.optimizer @lamb slots [] {
^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
  train.yield %g, %lr : f32, f32
} {trust_ratio = array<f64: 10.0, 0.01>}

// -----

// (C4) of optimizer.
// expected-error@+1 {{makes 0 Newton-Schulz iterations, expected at least 1}}
train.optimizer @muon slots [] {
^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
  train.yield %g : f32
} {newton_schulz = 0 : i64}

// -----

// expected-error@+1 {{makes Newton-Schulz iterations, and has a momentum that cycles}}
train.optimizer @muon slots [] {
^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32, %momentum: f32):
  train.yield %g : f32
} {newton_schulz = 5 : i64, cycles_momentum}

// -----

// expected-error@+1 {{uses argument 2 for the direction of its Newton-Schulz iterations, which is made of gradient and slots}}
train.optimizer @muon slots [] {
^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
  train.yield %lr : f32
} {newton_schulz = 5 : i64}

// -----

// (C5) of optimizer.
// expected-error@+1 {{has an average of decay 1.000000e+00, expected more than 0 and less than 1}}
train.optimizer @muon slots ["ema"] {
^bb0(%p: f32, %g: f32, %e: f32, %lr: f32, %step: f32, %decay: f32):
  train.yield %g : f32
} {newton_schulz = 5 : i64, average = 1.0 : f64}

// -----

// expected-error@+1 {{has an average, but a body that knows the new parameter}}
train.optimizer @sgd slots ["ema"] {
^bb0(%p: f32, %g: f32, %e: f32, %lr: f32, %step: f32, %decay: f32):
  train.yield %p : f32
} {average = 0.5 : f64}

// -----

// (C3) of update.
train.state @w : tensor<4xf32> {role = #train.role<parameter>, trained}
train.optimizer @sgd slots [] {
^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
  train.yield %p : f32
}
func.func @update(%x: tensor<f32>) {
  // expected-error@+1 {{has a momentum, which @sgd does not take}}
  train.update @w using @sgd scale %x lr %x step %x finite %x momentum %x : tensor<f32> decay 0.0 : tensor<f32>
  return
}

// -----

// (C4) of update.
train.state @w : tensor<4xf32> {role = #train.role<parameter>, trained}
train.optimizer @muon slots [] {
^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
  train.yield %g : f32
} {newton_schulz = 5 : i64}
func.func @update(%x: tensor<f32>) {
  // expected-error@+1 {{makes Newton-Schulz iterations over @w of 1 axes, expected 2 or 4}}
  train.update @w using @muon scale %x lr %x step %x finite %x decay 0.0 : tensor<f32>
  return
}

// -----

func.func @read() {
  // expected-error@+1 {{names no train.state: @w}}
  %0 = train.read_state @w : tensor<4xf32>
  return
}

// -----

train.state @w : tensor<4xf32> {role = #train.role<buffer>}
func.func @read() {
  // expected-error@+1 {{result has shape [2], expected [4]}}
  %0 = train.read_state @w : tensor<2xf32>
  return
}

// -----

train.state @w : tensor<4xi64> {role = #train.role<buffer>}
func.func @read() {
  // expected-error@+1 {{reads 'f32' of a state of 'i64'}}
  %0 = train.read_state @w : tensor<4xf32>
  return
}

// -----

train.state @w : tensor<4xf32> {role = #train.role<buffer>}
func.func @write(%x: tensor<4xf64>) {
  // expected-error@+1 {{writes 'tensor<4xf64>' to a state of 'tensor<4xf32>'}}
  train.write_state @w, %x : tensor<4xf64>
  return
}

// -----

train.state @w : tensor<4xf32> {role = #train.role<parameter>}
func.func @accumulate(%x: tensor<4xf32>) {
  // expected-error@+1 {{adds to @w, which is no trained parameter, gradient or scalar}}
  train.accumulate @w, %x : tensor<4xf32>
  return
}

// -----

train.state @w : tensor<4xf32> {role = #train.role<parameter>, trained}
func.func @accumulate(%x: tensor<2x2xf32>) {
  // expected-error@+1 {{value has shape [2x2], expected [4]}}
  train.accumulate @w, %x : tensor<2x2xf32>
  return
}

// -----

train.state @w : tensor<4xf32> {role = #train.role<parameter>, trained}
func.func @update(%x: tensor<f32>) {
  // expected-error@+1 {{names no train.optimizer: @sgd}}
  train.update @w using @sgd scale %x lr %x step %x finite %x decay 0.0 : tensor<f32>
  return
}

// -----

train.state @w : tensor<4xf32> {role = #train.role<parameter>, trained}
train.optimizer @sgd slots ["momentum"] {
^bb0(%p: f32, %g: f32, %m: f32, %lr: f32, %step: f32, %decay: f32):
  train.yield %p, %m : f32, f32
}
func.func @update(%x: tensor<f32>) {
  // expected-error@+1 {{has no state 'w.momentum' of role optimizer}}
  train.update @w using @sgd scale %x lr %x step %x finite %x decay 0.0 : tensor<f32>
  return
}

// -----

train.state @w : tensor<4xf32> {role = #train.role<parameter>}
func.func @update(%x: tensor<f32>) {
  // expected-error@+1 {{updates @w, which is no trained parameter}}
  train.update @w using @sgd scale %x lr %x step %x finite %x decay 0.0 : tensor<f32>
  return
}

// -----

func.func @backward(%x: tensor<1xf32>) {
  // expected-error@+1 {{operand #0 must be 0D tensor of floating-point values}}
  train.backward %x seed %x : tensor<1xf32>
  return
}

// -----

func.func @constant() {
  // expected-error@+1 {{literal of 'tensor<2xf32>' for a result of 'tensor<1x2xf32>'}}
  %0 = train.constant dense<[1.0, 2.0]> : tensor<2xf32> : tensor<1x2xf32>
  return
}

// -----

func.func @iota() {
  // expected-error@+1 {{axis 2 is out of range for rank 2}}
  %0 = train.iota 2 : tensor<2x3xi64>
  return
}

// -----

// (C2) of state: bytes are those of numbers.
train.weight_file @weights0 {path = "m.onnx", size = -1 : i64, fingerprint = ""}
// expected-error@+1 {{weight has element type 'index'}}
train.state @w : tensor<4xf32> {role = #train.role<parameter>, init = #train.weight<@weights0, 0, 16, index>}

// -----

// expected-error@+1 {{body does not end in train.yield}}
train.optimizer @sgd slots [] {
^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
  ub.unreachable
}

// -----

// expected-error@+1 {{yields 'f64', expected 'f32'}}
train.optimizer @sgd slots [] {
^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
  %x = arith.constant 0.0 : f64
  train.yield %x : f64
}

// -----

// expected-error@+1 {{has an average, but no slot for it}}
train.optimizer @muon slots [] {
^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
  train.yield %g : f32
} {newton_schulz = 5 : i64, average = 0.5 : f64}

// -----

// (C3) of update, the other way.
train.state @w : tensor<4xf32> {role = #train.role<parameter>, trained}
train.optimizer @sgd slots [] {
^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32, %momentum: f32):
  train.yield %p : f32
} {cycles_momentum}
func.func @update(%x: tensor<f32>) {
  // expected-error@+1 {{has no momentum, which @sgd takes}}
  train.update @w using @sgd scale %x lr %x step %x finite %x decay 0.0 : tensor<f32>
  return
}
