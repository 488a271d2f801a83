// RUN: zopt %s --verify-diagnostics --zopt-set-batch --zopt-add-running-averages

module attributes {train.level = "forward"} {
  train.state @r : tensor<3xf32> {role = #train.role<buffer>, init = 0.0 : f32}
  func.func @forward(%x: tensor<4x3xf32> {train.name = "x"}) -> (tensor<4x3xf32> {train.name = "y"}) {
    %mean, %variance = train.batch_statistics %x : tensor<4x3xf32> -> tensor<3xf32>
    train.running_average @r, %mean {momentum = 0.9 : f64} : tensor<3xf32>
    // expected-error @below {{running average @r is moved by two nodes}}
    train.running_average @r, %variance {momentum = 0.9 : f64} : tensor<3xf32>
    return %x : tensor<4x3xf32>
  }
}
