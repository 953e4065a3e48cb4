//! Compiles `links.proto` with protox for the feature `grpc`, so that no `protoc` has to be installed.

#[cfg_attr(not(feature = "grpc"), expect(clippy::unnecessary_wraps, reason = "compiling can fail"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../protocol/proto");
    #[cfg(feature = "grpc")]
    {
        let files = protox::compile(["links.proto"], ["../protocol/proto"])?;
        tonic_prost_build::configure()
            .bytes(".")
            .extern_path(".petrel.bus", "::petrel_protocol::events")
            .extern_path(".petrel.calls", "::petrel_protocol::calls")
            .compile_fds(files)?;
    }
    Ok(())
}
