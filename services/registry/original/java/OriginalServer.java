import com.netflix.eureka.EurekaBootStrap;
import com.sun.jersey.spi.container.servlet.ServletContainer;
import java.util.EnumSet;
import javax.servlet.DispatcherType;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.servlet.DefaultServlet;
import org.eclipse.jetty.servlet.FilterHolder;
import org.eclipse.jetty.servlet.ServletContextHandler;

/**
 * Runs the original's server in a Jetty, under /eureka/v2, with another server
 * as its peer. Arguments: port, the peer's base URL, whether it sends batches;
 * then further settings as NAME=VALUE.
 */
public final class OriginalServer {
    public static void main(String[] args) throws Exception {
        String[][] props = {
            {"eureka.region", "default"}, {"eureka.name", "eureka"}, {"eureka.port", args[0]}, {"eureka.vipAddress", "eureka"},
            {"eureka.serviceUrl.default", args[1]}, {"eureka.shouldUseDns", "false"}, {"eureka.preferSameZone", "false"},
            {"eureka.registration.enabled", "false"}, {"eureka.shouldFetchRegistry", "false"},
            {"eureka.waitTimeInMsWhenSyncEmpty", "0"}, {"eureka.numberRegistrySyncRetries", "0"},
            {"eureka.enableSelfPreservation", "false"}, {"eureka.shouldBatchReplication", args[2]},
            {"eureka.responseCacheUpdateIntervalMs", "100"}, {"eureka.peerNodeReadTimeoutMs", "2000"},
            {"archaius.deployment.environment", "test"}, {"archaius.deployment.datacenter", "default"},
        };
        for (String[] p : props) {
            System.setProperty(p[0], p[1]);
        }
        for (int i = 3; i < args.length; i++) {
            String[] kv = args[i].split("=", 2);
            System.setProperty(kv[0], kv[1]);
        }
        Server server = new Server();
        ServerConnector c = new ServerConnector(server);
        c.setHost("127.0.0.1");
        c.setPort(Integer.parseInt(args[0]));
        server.addConnector(c);
        ServletContextHandler ctx = new ServletContextHandler();
        ctx.setContextPath("/eureka");
        ctx.addEventListener(new EurekaBootStrap());
        FilterHolder jersey = new FilterHolder(ServletContainer.class);
        jersey.setInitParameter("com.sun.jersey.config.property.packages", "com.sun.jersey;com.netflix");
        jersey.setInitParameter("com.sun.jersey.spi.container.ContainerRequestFilters", "com.sun.jersey.api.container.filter.GZIPContentEncodingFilter");
        jersey.setInitParameter("com.sun.jersey.spi.container.ContainerResponseFilters", "com.sun.jersey.api.container.filter.GZIPContentEncodingFilter");
        jersey.setInitParameter("com.sun.jersey.config.feature.DisableWADL", "true");
        ctx.addFilter(jersey, "/*", EnumSet.of(DispatcherType.REQUEST));
        ctx.addServlet(DefaultServlet.class, "/");
        server.setHandler(ctx);
        server.start();
        System.out.println("listening");
        System.out.flush();
        System.in.read(); // the test ends it by closing its input
        Runtime.getRuntime().halt(0);
    }
}
