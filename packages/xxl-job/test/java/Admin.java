import com.sun.net.httpserver.HttpServer;
import com.xxl.job.core.biz.ExecutorBiz;
import com.xxl.job.core.biz.client.ExecutorBizClient;
import com.xxl.job.core.biz.model.*;
import com.xxl.job.core.util.GsonTool;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.List;

/**
 * What an admin is made of, from its own jar: the client with which it calls executors, and the classes into which it reads what they
 * send. Takes commands as lines of tab-separated words; prints what comes back, and what came.
 */
public class Admin {
  public static void main(String[] args) throws Exception {
    // Whatever the locale.
    System.setOut(new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8));
    String token = args[0];
    HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
    server.createContext("/xxl-job-admin/api/", exchange -> {
      String body = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
      String answer;
      try {
        if (!token.equals(exchange.getRequestHeaders().getFirst("XXL-JOB-ACCESS-TOKEN"))) throw new IllegalStateException("the token is wrong");
        read(exchange.getRequestURI().getPath().replace("/xxl-job-admin/api/", ""), body);
        answer = GsonTool.toJson(new ReturnT<String>(200, null));
      } catch (Throwable e) {
        say("refused", e.toString());
        answer = GsonTool.toJson(new ReturnT<String>(500, e.toString()));
      }
      byte[] bytes = answer.getBytes(StandardCharsets.UTF_8);
      exchange.sendResponseHeaders(200, bytes.length);
      exchange.getResponseBody().write(bytes);
      exchange.close();
    });
    server.start();
    say("port", String.valueOf(server.getAddress().getPort()));
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      String[] w = line.split("\t", -1);
      ReturnT<?> result = call(client(w[1], token), w);
      Object content = result.getContent();
      if (content instanceof LogResult log)
        content = log.getFromLineNum() + " " + log.getToLineNum() + " " + log.isEnd() + " " + log.getLogContent();
      say("answer", result.getCode() + "\t" + result.getMsg() + "\t" + content);
    }
    System.exit(0);
  }

  static ReturnT<?> call(ExecutorBiz executor, String[] w) throws Exception {
    switch (w[0]) {
      case "beat": return executor.beat();
      case "idleBeat": return executor.idleBeat(new IdleBeatParam(Integer.parseInt(w[2])));
      case "kill": return executor.kill(new KillParam(Integer.parseInt(w[2])));
      case "log": return executor.log(new LogParam(Long.parseLong(w[2]), Long.parseLong(w[3]), Integer.parseInt(w[4])));
      case "run":
        TriggerParam p = new TriggerParam();
        p.setJobId(Integer.parseInt(w[2]));
        p.setLogId(Long.parseLong(w[3]));
        p.setLogDateTime(Long.parseLong(w[4]));
        p.setExecutorHandler(w[5]);
        p.setExecutorParams(w[6]);
        p.setExecutorBlockStrategy(w[7]);
        p.setExecutorTimeout(0);
        p.setGlueType("BEAN");
        p.setGlueSource("");
        p.setGlueUpdatetime(0);
        p.setBroadcastIndex(1);
        p.setBroadcastTotal(3);
        return executor.run(p);
      default: throw new IllegalArgumentException(w[0]);
    }
  }

  static ExecutorBiz client(String address, String token) throws Exception {
    for (Constructor<?> one : ExecutorBizClient.class.getConstructors()) {
      if (one.getParameterCount() == 2) return (ExecutorBiz) one.newInstance(address, token);
      // From 2.5 with a time-out in seconds.
      if (one.getParameterCount() == 3) return (ExecutorBiz) one.newInstance(address, token, 3);
    }
    throw new IllegalStateException("no constructor that is known");
  }

  @SuppressWarnings("unchecked")
  static void read(String path, String body) throws Exception {
    if (path.equals("callback")) {
      for (HandleCallbackParam one : (List<HandleCallbackParam>) GsonTool.fromJson(body, List.class, HandleCallbackParam.class))
        say("callback", one.getLogId() + "\t" + one.getLogDateTim() + "\t" + code(one));
      return;
    }
    RegistryParam one = GsonTool.fromJson(body, RegistryParam.class);
    say(path, one.getRegistryGroup() + "\t" + one.getRegistryKey() + "\t" + one.getRegistryValue());
  }

  /** Of 2.2 in a result of its own, later in two fields. */
  static String code(HandleCallbackParam one) throws Exception {
    try {
      Field result = HandleCallbackParam.class.getDeclaredField("executeResult");
      result.setAccessible(true);
      ReturnT<?> value = (ReturnT<?>) result.get(one);
      return value.getCode() + "\t" + value.getMsg();
    } catch (NoSuchFieldException e) {
      return HandleCallbackParam.class.getMethod("getHandleCode").invoke(one) + "\t" + HandleCallbackParam.class.getMethod("getHandleMsg").invoke(one);
    }
  }

  static synchronized void say(String what, String of) {
    System.out.println(what + "\t" + of.replace("\n", "\\n"));
    System.out.flush();
  }
}
