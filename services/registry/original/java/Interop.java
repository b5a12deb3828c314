import com.netflix.appinfo.ApplicationInfoManager;
import com.netflix.appinfo.DataCenterInfo;
import com.netflix.appinfo.EurekaClientIdentity;
import com.netflix.appinfo.InstanceInfo;
import com.netflix.appinfo.InstanceInfo.InstanceStatus;
import com.netflix.appinfo.LeaseInfo;
import com.netflix.appinfo.MyDataCenterInfo;
import com.netflix.appinfo.MyDataCenterInstanceConfig;
import com.netflix.appinfo.providers.EurekaConfigBasedInstanceInfoProvider;
import com.netflix.discovery.DefaultEurekaClientConfig;
import com.netflix.discovery.DiscoveryClient;
import com.netflix.discovery.converters.wrappers.CodecWrapper;
import com.netflix.discovery.converters.wrappers.CodecWrappers;
import com.netflix.discovery.shared.Application;
import com.netflix.discovery.shared.Applications;
import com.netflix.discovery.shared.resolver.DefaultEndpoint;
import com.netflix.discovery.shared.transport.EurekaHttpClient;
import com.netflix.discovery.shared.transport.EurekaHttpResponse;
import com.netflix.discovery.shared.transport.jersey.JerseyEurekaHttpClientFactory;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.zip.GZIPInputStream;

/**
 * Uses a registry by the original's own client, and its codecs, as a service
 * would. Each line "ok WHAT" is a check that passed; the first that fails ends
 * the program with 1. The argument is the registry's base URL.
 */
public final class Interop {
    static String url;

    public static void main(String[] args) {
        int code = 1;
        try {
            url = args[0];
            transport();
            discovery();
            for (Class<? extends CodecWrapper> codec : List.of(
                    CodecWrappers.LegacyJacksonJson.class, CodecWrappers.JacksonJson.class, CodecWrappers.XStreamJson.class,
                    CodecWrappers.XStreamXml.class, CodecWrappers.JacksonXml.class)) {
                codec(CodecWrappers.getCodec(codec), codec.getSimpleName());
            }
            System.out.println("ok all");
            code = 0;
        } catch (Throwable t) {
            t.printStackTrace(System.out);
        }
        System.out.flush();
        Runtime.getRuntime().halt(code);
    }

    static final class Conf extends DefaultEurekaClientConfig {
        @Override public List<String> getEurekaServerServiceUrls(String zone) { return List.of(url); }
        @Override public int getRegistryFetchIntervalSeconds() { return 1; }
        @Override public int getInitialInstanceInfoReplicationIntervalSeconds() { return 0; }
        @Override public int getInstanceInfoReplicationIntervalSeconds() { return 1; }
        @Override public boolean shouldUseDnsForFetchingServiceUrls() { return false; }
    }

    static final class Inst extends MyDataCenterInstanceConfig {
        @Override public String getInstanceId() { return "java-1:orders:8080"; }
        @Override public String getAppname() { return "orders"; }
        @Override public String getVirtualHostName() { return "orders.vip"; }
        @Override public String getSecureVirtualHostName() { return "orders.secure"; }
        @Override public String getHostName(boolean refresh) { return "localhost"; }
        @Override public String getIpAddress() { return "127.0.0.1"; }
        @Override public int getNonSecurePort() { return 8080; }
        @Override public int getLeaseRenewalIntervalInSeconds() { return 1; }
        @Override public int getLeaseExpirationDurationInSeconds() { return 5; }
        @Override public Map<String, String> getMetadataMap() {
            Map<String, String> m = new HashMap<>();
            m.put("zone", "a");
            m.put("snake_case", "1");
            m.put("dollar$", "<&>");
            return m;
        }
        @Override public String getStatusPageUrlPath() { return "/info"; }
    }

    static InstanceInfo instance(String id, String app, String vip, int port) {
        return InstanceInfo.Builder.newBuilder()
                .setInstanceId(id).setAppName(app).setHostName("h-" + id).setIPAddr("127.0.0.2").setPort(port)
                .setVIPAddress(vip).setSecureVIPAddress(vip + "s").setStatus(InstanceStatus.UP)
                .setDataCenterInfo(new MyDataCenterInfo(DataCenterInfo.Name.MyOwn))
                .setLeaseInfo(LeaseInfo.Builder.newBuilder().setRenewalIntervalInSecs(30).setDurationInSecs(90).build())
                .add("snake_case", "1").add("sp ace", "é").build();
    }

    static EurekaHttpClient low() {
        EurekaClientIdentity id = new EurekaClientIdentity("interop");
        return JerseyEurekaHttpClientFactory.create(new Conf(), Collections.emptyList(), instance("self", "SELF", "self", 1), id)
                .newClient(new DefaultEndpoint(url));
    }

    /** Every call of the client's transport. */
    static void transport() throws Exception {
        EurekaHttpClient c = low();
        InstanceInfo in = instance("java-2", "STOCK", "stock.vip", 9090);
        is(c.sendHeartBeat("STOCK", "java-2", in, null).getStatusCode(), 404, "heartbeat of a stranger");
        is(c.register(in).getStatusCode(), 204, "register");
        is(c.sendHeartBeat("STOCK", "java-2", in, null).getStatusCode(), 200, "heartbeat");
        EurekaHttpResponse<Application> app = c.getApplication("STOCK");
        is(app.getEntity().getInstances().size(), 1, "application");
        InstanceInfo got = c.getInstance("STOCK", "java-2").getEntity();
        is(got.getPort(), 9090, "port");
        is(got.getMetadata().get("snake_case"), "1", "metadata");
        is(got.getMetadata().get("sp ace"), "é", "metadata with a space");
        is(got.getLeaseInfo().getDurationInSecs(), 90, "lease");
        is(got.getDataCenterInfo().getName(), DataCenterInfo.Name.MyOwn, "data centre");
        is(c.getInstance("java-2").getEntity().getAppName(), "STOCK", "instance by id");
        is(c.getVip("stock.vip").getEntity().size(), 1, "vip");
        is(c.getSecureVip("stock.vips").getEntity().size(), 1, "svip");
        is(c.getVip("none").getStatusCode(), 200, "vip of nobody");
        is(c.getVip("none").getEntity().size(), 0, "vip of nobody: instances");
        Applications all = c.getApplications().getEntity();
        is(all.getAppsHashCode(), all.getReconcileHashCode(), "hash of the full fetch");
        is(c.statusUpdate("STOCK", "java-2", InstanceStatus.OUT_OF_SERVICE, got).getStatusCode(), 200, "status override");
        got = c.getInstance("java-2").getEntity();
        is(got.getStatus(), InstanceStatus.OUT_OF_SERVICE, "overridden status");
        is(got.getOverriddenStatus(), InstanceStatus.OUT_OF_SERVICE, "override");
        is(c.register(in).getStatusCode(), 204, "register again");
        is(c.getInstance("java-2").getEntity().getStatus(), InstanceStatus.OUT_OF_SERVICE, "the override stays");
        is(c.deleteStatusOverride("STOCK", "java-2", got).getStatusCode(), 200, "delete override");
        is(c.getInstance("java-2").getEntity().getStatus(), InstanceStatus.UP, "its own status again");
        Applications delta = c.getDelta().getEntity();
        is(delta.getRegisteredApplications("STOCK").getInstances().get(0).getActionType(), InstanceInfo.ActionType.MODIFIED, "delta");
        c.shutdown();
    }

    /** The discovery client in full: registers, renews, fetches deltas, leaves. */
    static void discovery() throws Exception {
        Inst conf = new Inst();
        InstanceInfo info = new EurekaConfigBasedInstanceInfoProvider(conf).get();
        ApplicationInfoManager mgr = new ApplicationInfoManager(conf, info);
        DiscoveryClient c = new DiscoveryClient(mgr, new Conf());
        EurekaHttpClient low = low();
        mgr.setInstanceStatus(InstanceStatus.UP);
        until("registered and UP", () -> {
            InstanceInfo got = low.getInstance("ORDERS", "java-1:orders:8080").getEntity();
            return got != null && got.getStatus() == InstanceStatus.UP && "<&>".equals(got.getMetadata().get("dollar$"));
        });
        until("sees another instance by VIP", () -> c.getInstancesByVipAddress("stock.vip", false).size() == 1);
        until("sees itself", () -> c.getInstancesByVipAddress("orders.vip", false).size() == 1);
        InstanceInfo extra = instance("java-3", "STOCK", "stock.vip", 9091);
        low.register(extra);
        until("a delta brings a new instance", () -> c.getInstancesByVipAddress("stock.vip", false).size() == 2);
        low.statusUpdate("STOCK", "java-3", InstanceStatus.OUT_OF_SERVICE, extra);
        until("a delta takes one out of service", () -> c.getInstancesByVipAddress("stock.vip", false).size() == 1);
        low.deleteStatusOverride("STOCK", "java-3", extra);
        until("a delta brings it back", () -> c.getInstancesByVipAddress("stock.vip", false).size() == 2);
        low.cancel("STOCK", "java-3");
        until("a delta takes one away", () -> c.getInstancesByVipAddress("stock.vip", false).size() == 1);
        // The client notes the hash a moment after it has merged the delta.
        until("hash after deltas", () -> low.getApplications().getEntity().getReconcileHashCode().equals(c.getApplications().getAppsHashCode()));
        long before = low.getInstance("java-1:orders:8080").getEntity().getLeaseInfo().getRenewalTimestamp();
        until("renews its lease", () -> low.getInstance("java-1:orders:8080").getEntity().getLeaseInfo().getRenewalTimestamp() > before);
        low.cancel("ORDERS", "java-1:orders:8080");
        until("registers again when it was forgotten", () -> low.getInstance("java-1:orders:8080").getStatusCode() == 200);
        c.shutdown();
        is(low.getInstance("java-1:orders:8080").getStatusCode(), 404, "leaves in order");
        low.shutdown();
    }

    /** What one of the original's codecs writes is taken, and it reads what comes. */
    static void codec(CodecWrapper codec, String name) throws Exception {
        String type = name.endsWith("Xml") ? "application/xml" : "application/json";
        InstanceInfo in = instance("codec-" + name, "CODEC", "codec.vip", 7070);
        if (name.equals("JacksonXml")) {
            in.getMetadata().remove("sp ace"); // it writes names as they are, which is no XML
        }
        is(send("POST", "/apps/CODEC", type, codec.encode(in)), 204, name + " registers");
        for (boolean gzip : new boolean[] {false, true}) {
            Applications all = codec.decode(fetch("/apps", type, gzip), Applications.class);
            InstanceInfo got = all.getRegisteredApplications("CODEC").getByInstanceId("codec-" + name);
            is(got.getPort(), 7070, name + " reads the port, gzip " + gzip);
            is(got.getHostName(), "h-codec-" + name, name + " reads the host");
            is(got.getStatus(), InstanceStatus.UP, name + " reads the status");
            is(got.getVIPAddress(), "codec.vip", name + " reads the VIP");
            if (!name.equals("JacksonXml")) { // which leaves names as they are escaped
                is(got.getMetadata().get("snake_case"), "1", name + " reads metadata");
            }
            is(all.getAppsHashCode(), all.getReconcileHashCode(), name + " agrees with the hash");
        }
        Applications delta = codec.decode(fetch("/apps/delta", type, true), Applications.class);
        is(delta.getRegisteredApplications("CODEC").getByInstanceId("codec-" + name).getActionType(), InstanceInfo.ActionType.ADDED, name + " reads the delta");
        is(codec.decode(fetch("/apps/CODEC/codec-" + name, type, false), InstanceInfo.class).getSecureVipAddress(), "codec.vips", name + " reads an instance");
        is(codec.decode(fetch("/apps/CODEC", type, false), Application.class).getName(), "CODEC", name + " reads an application");
        is(send("DELETE", "/apps/CODEC/codec-" + name, type, null), 200, name + " leaves");
    }

    static int send(String method, String path, String type, String body) throws Exception {
        HttpURLConnection h = (HttpURLConnection) new URL(url.replaceAll("/$", "") + path).openConnection();
        h.setRequestMethod(method);
        if (body != null) {
            h.setDoOutput(true);
            h.setRequestProperty("Content-Type", type);
            h.getOutputStream().write(body.getBytes(StandardCharsets.UTF_8));
        }
        int status = h.getResponseCode();
        h.disconnect();
        return status;
    }

    static String fetch(String path, String type, boolean gzip) throws Exception {
        HttpURLConnection h = (HttpURLConnection) new URL(url.replaceAll("/$", "") + path).openConnection();
        h.setRequestProperty("Accept", type);
        if (gzip) {
            h.setRequestProperty("Accept-Encoding", "gzip");
        }
        try (InputStream raw = h.getInputStream(); InputStream in = "gzip".equals(h.getContentEncoding()) ? new GZIPInputStream(raw) : raw) {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            in.transferTo(out);
            return out.toString(StandardCharsets.UTF_8);
        }
    }

    static void is(Object got, Object want, String what) {
        if (!want.equals(got)) {
            throw new AssertionError(what + ": " + got + ", want " + want);
        }
        System.out.println("ok " + what);
    }

    static void until(String what, Callable<Boolean> f) throws Exception {
        for (long end = System.nanoTime() + 120_000_000_000L; !f.call(); Thread.sleep(50)) {
            if (System.nanoTime() > end) {
                throw new AssertionError(what + ": not within two minutes");
            }
        }
        System.out.println("ok " + what);
    }
}
