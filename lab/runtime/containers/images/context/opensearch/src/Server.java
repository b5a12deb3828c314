package flix;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.Plugin;

/**
 * One OpenSearch node with the modules of the minimal distribution, which come
 * as libraries rather than as module folders. Settings are those of
 * config/opensearch.yml, then what the environment holds under dotted names
 * (network.host, discovery.type, …), then -Ename=value.
 */
public final class Server {
    private static final Pattern SETTING = Pattern.compile("[a-z0-9_]+(\\.[a-z0-9_]+)+");

    private static final List<Class<? extends Plugin>> MODULES = List.of(
            org.opensearch.transport.Netty4Plugin.class,
            org.opensearch.analysis.common.CommonAnalysisPlugin.class,
            org.opensearch.index.mapper.MapperExtrasPlugin.class,
            org.opensearch.join.ParentJoinPlugin.class,
            org.opensearch.percolator.PercolatorPlugin.class,
            org.opensearch.index.reindex.ReindexPlugin.class,
            org.opensearch.index.rankeval.RankEvalPlugin.class,
            org.opensearch.painless.PainlessPlugin.class,
            org.opensearch.script.expression.ExpressionPlugin.class,
            org.opensearch.script.mustache.MustachePlugin.class,
            org.opensearch.search.aggregations.matrix.MatrixAggregationPlugin.class,
            org.opensearch.ingest.common.IngestCommonPlugin.class);

    private static final class ModularNode extends Node {
        ModularNode(Environment environment) {
            super(environment, new ArrayList<>(MODULES), true);
        }
    }

    public static void main(String[] args) throws Exception {
        String home = System.getProperty("opensearch.path.home");
        Environment environment = InternalSettingsPreparer.prepareEnvironment(
                Settings.builder().put("path.home", home).build(),
                settings(System.getenv(), args),
                Path.of(home, "config"),
                () -> System.getenv().getOrDefault("HOSTNAME", "opensearch"));

        Node node = new ModularNode(environment);
        CountDownLatch closed = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            close(node);
            closed.countDown();
        }, "shutdown"));
        node.start();
        closed.await();
    }

    private static Map<String, String> settings(Map<String, String> env, String[] args) {
        Map<String, String> settings = new HashMap<>();
        env.forEach((name, value) -> {
            boolean setting = SETTING.matcher(name).matches() || name.equals("processors");
            // There is no security plugin here to be told anything.
            if (setting && !value.isEmpty() && !name.startsWith("plugins.security.")) {
                settings.put(name, value);
            }
        });
        for (String arg : args) {
            int eq = arg.indexOf('=');
            if (!arg.startsWith("-E") || eq < 0) {
                throw new IllegalArgumentException("unknown option " + arg + ": only -Ename=value is known");
            }
            settings.put(arg.substring(2, eq), arg.substring(eq + 1));
        }
        return settings;
    }

    private static void close(Node node) {
        try {
            node.close();
            node.awaitClose(10, TimeUnit.SECONDS);
        } catch (IOException | InterruptedException e) {
            System.err.println("opensearch: the node did not close in order: " + e);
        }
    }

    private Server() {}
}
