import io.netty.bootstrap.ServerBootstrap;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelOption;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.epoll.EpollIoHandler;
import io.netty.channel.epoll.EpollServerSocketChannel;
import io.netty.channel.group.ChannelGroup;
import io.netty.channel.group.DefaultChannelGroup;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.HttpServerCodec;
import io.netty.handler.codec.http.websocketx.WebSocketFrame;
import io.netty.handler.codec.http.websocketx.WebSocketServerProtocolConfig;
import io.netty.handler.codec.http.websocketx.WebSocketServerProtocolHandler;
import io.netty.handler.flush.FlushConsolidationHandler;
import java.net.InetSocketAddress;
import java.util.Arrays;
import java.util.List;

/** The echo, or with --broadcast the fan-out, on Netty: epoll, one event loop, answers of one turn in one flush. */
public final class Echo {
    private static final int FRAME_BYTES_MAX = 16 << 20;

    private Echo() {}

    public static void main(String[] arguments) throws InterruptedException {
        List<String> list = Arrays.asList(arguments);
        String[] listen = list.get(list.indexOf("--listen") + 1).split(":");
        boolean isBroadcast = list.contains("--broadcast");
        EventLoopGroup loop = new MultiThreadIoEventLoopGroup(1, EpollIoHandler.newFactory());
        ChannelGroup all = new DefaultChannelGroup(loop.next());
        WebSocketServerProtocolConfig config = WebSocketServerProtocolConfig.newBuilder()
                .websocketPath("/")
                .checkStartsWith(true)
                .maxFramePayloadLength(FRAME_BYTES_MAX)
                .build();
        new ServerBootstrap()
                .group(loop)
                .channel(EpollServerSocketChannel.class)
                .option(ChannelOption.SO_BACKLOG, 4096)
                .childOption(ChannelOption.TCP_NODELAY, true)
                .childHandler(new ChannelInitializer<Channel>() {
                    @Override
                    protected void initChannel(Channel channel) {
                        channel.pipeline().addLast(
                                new FlushConsolidationHandler(),
                                new HttpServerCodec(),
                                new HttpObjectAggregator(1 << 16),
                                new WebSocketServerProtocolHandler(config),
                                new Handler(isBroadcast ? all : null));
                    }
                })
                .bind(new InetSocketAddress(listen[0], Integer.parseInt(listen[1])))
                .sync()
                .channel()
                .closeFuture()
                .sync();
    }

    private static final class Handler extends SimpleChannelInboundHandler<WebSocketFrame> {
        private final ChannelGroup all;

        Handler(ChannelGroup all) {
            this.all = all;
        }

        @Override
        public void userEventTriggered(ChannelHandlerContext context, Object event) {
            if (all != null && event instanceof WebSocketServerProtocolHandler.HandshakeComplete) {
                all.add(context.channel());
            }
        }

        @Override
        public void exceptionCaught(ChannelHandlerContext context, Throwable cause) {
            // A peer that is gone ends its own connection only.
            context.close();
        }

        @Override
        protected void channelRead0(ChannelHandlerContext context, WebSocketFrame frame) {
            if (all == null) {
                context.writeAndFlush(frame.retain(), context.voidPromise());
            } else {
                // A group is given a frame for each of its channels, of one shared buffer.
                all.writeAndFlush(frame.retain(), channel -> true, true);
            }
        }
    }
}
