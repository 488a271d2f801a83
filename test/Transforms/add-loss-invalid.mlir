// RUN: zopt %s --zopt-add-loss --split-input-file --verify-diagnostics

// expected-error@+1 {{module has no @forward to add a loss to}}
module {
}

// -----

// expected-error@+1 {{no output is a float tensor that could feed the loss; outputs are 'ids'}}
func.func @forward(%x: tensor<2x3xi64> {train.name = "x"}) -> (tensor<2x3xi64> {train.name = "ids"}) {
  return %x : tensor<2x3xi64>
}

// -----

// expected-error@+1 {{the graph has an input named 'labels' already; name the label tensor otherwise}}
func.func @forward(%x: tensor<2x3xf32> {train.name = "labels"}) -> (tensor<2x3xf32> {train.name = "logits"}) {
  return %x : tensor<2x3xf32>
}

// -----

// expected-error@+1 {{class axis -1 is out of range for output 'logits' of rank 0}}
func.func @forward(%x: tensor<f32> {train.name = "x"}) -> (tensor<f32> {train.name = "logits"}) {
  return %x : tensor<f32>
}
