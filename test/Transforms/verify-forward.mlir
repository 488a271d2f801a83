// RUN: zopt %s --zopt-verify-forward --split-input-file --verify-diagnostics

// What holds passes without a word.
module attributes {train.level = "forward"} {
  train.state @w : tensor<2xf32> {role = #train.role<parameter>, trained}
  func.func @forward(%x: tensor<2xf32> {train.name = "x"}) -> (tensor<2xf32> {train.name = "y"}) {
    %w = train.read_state @w : tensor<2xf32>
    %y = train.mul %x, %w : tensor<2xf32>, tensor<2xf32> -> tensor<2xf32>
    return %y : tensor<2xf32>
  }
}

// -----

// expected-error@+1 {{module is not at the forward level: train.level is not set}}
module {
  func.func @forward(%x: tensor<2xf32> {train.name = "x"}) -> (tensor<2xf32> {train.name = "y"}) {
    return %x : tensor<2xf32>
  }
}

// -----

// expected-error@+2 {{module is not at the forward level: train.level is 'step'}}
// expected-error@+1 {{module has no @forward}}
module attributes {train.level = "step"} {
}

// -----

module attributes {train.level = "forward"} {
  train.state @w : tensor<2xf32> {role = #train.role<parameter>, trained}
  // expected-error@+4 {{argument 0 has no train.name}}
  // expected-error@+3 {{two arguments are named 'x'}}
  // expected-error@+2 {{argument 3 is 'tensor<?xf32>', expected a static tensor}}
  // expected-error@+1 {{result 0 has no train.name}}
  func.func @forward(%a: tensor<2xf32>, %b: tensor<2xf32> {train.name = "x"}, %c: tensor<2xf32> {train.name = "x"}, %d: tensor<?xf32> {train.name = "d"}) -> tensor<2xf32> {
    %w = train.read_state @w : tensor<2xf32>
    // expected-error@+1 {{reads parameter @w a second time}}
    %w2 = train.read_state @w : tensor<2xf32>
    // expected-error@+1 {{does not belong in a forward graph}}
    train.accumulate @w, %w : tensor<2xf32>
    // expected-error@+1 {{does not belong in a forward graph}}
    %sum = arith.addf %w, %w2 : tensor<2xf32>
    return %w : tensor<2xf32>
  }
}

// -----

module attributes {train.level = "forward"} {
  // expected-error@+1 {{@forward has no result}}
  func.func @forward(%x: tensor<2xf32> {train.name = "x"}) {
    return
  }
}

// -----

module attributes {train.level = "forward"} {
  // expected-error@+1 {{@forward has 2 blocks, expected 1}}
  func.func @forward(%x: tensor<2xf32> {train.name = "x"}) -> (tensor<2xf32> {train.name = "y"}) {
    cf.br ^next
  ^next:
    return %x : tensor<2xf32>
  }
}
