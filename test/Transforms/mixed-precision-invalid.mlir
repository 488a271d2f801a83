// RUN: zopt %s --zopt-mixed-precision=compute=bf16 --verify-diagnostics

// What is no op of train has no rule.
module attributes {train.level = "forward"} {
  func.func @micro_step(%x: tensor<4xf32> {train.name = "x"}) -> (tensor<4xf32> {train.name = "y"}) {
    // expected-error@+1 {{cannot compute in lower precision}}
    %y = arith.addf %x, %x : tensor<4xf32>
    return %y : tensor<4xf32>
  }
}
