module github.com/weir-project/weir/sdk/go

go 1.24
