import java.io.StringReader;
import java.sql.*;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.core.BaseConnection;

/** What a Java program does with a database. Prints one line per step: "ok NAME", or "NAME: SQLSTATE message". */
public class Jdbc {
  interface Step { void run(Connection connection) throws Exception; }

  private static String url, ca;

  static void step(String name, String options, Step step) {
    Properties properties = new Properties();
    properties.setProperty("user", "agent");
    properties.setProperty("password", System.getenv("PGPASSWORD"));
    properties.setProperty("sslmode", "verify-full");
    properties.setProperty("sslrootcert", ca);
    for (String option : options.isEmpty() ? new String[0] : options.split("&"))
      properties.setProperty(option.substring(0, option.indexOf('=')), option.substring(option.indexOf('=') + 1));
    try (Connection connection = DriverManager.getConnection(url, properties)) {
      step.run(connection);
      System.out.println("ok " + name);
    } catch (SQLException error) {
      System.out.println(name + ": " + error.getSQLState() + " " + error.getMessage().replace("\n", " "));
    } catch (Exception error) {
      System.out.println(name + ": " + error);
    }
  }

  static void expect(boolean holds, String otherwise) {
    if (!holds) throw new IllegalStateException(otherwise);
  }

  public static void main(String[] arguments) {
    url = "jdbc:postgresql://localhost:" + arguments[0] + "/shop";
    ca = arguments[1];
    step("current schema", "currentSchema=public", connection -> {
      connection.setSchema("public");
      expect(connection.getSchema().equals("public"), "another schema");
    });
    for (String mode : new String[] {"", "preferQueryMode=simple", "preferQueryMode=extendedForPrepared", "prepareThreshold=1"}) {
      step("masked select " + mode, mode, connection -> {
        PreparedStatement select = connection.prepareStatement("select id, name, ssn from customers where id = ?");
        for (int run = 0; run < 8; run++) {
          select.setInt(1, 5);
          ResultSet rows = select.executeQuery();
          expect(rows.next() && rows.getString(2).equals("Customer 5"), "no row");
          expect(!rows.getString(3).contains("-12-"), "a planted value");
        }
      });
      step("batch " + mode, mode, connection -> {
        connection.setAutoCommit(false);
        PreparedStatement insert = connection.prepareStatement(
            "insert into orders (customer, amount) values (?, ?)", Statement.RETURN_GENERATED_KEYS);
        for (int row = 0; row < 20; row++) {
          insert.setInt(1, 1);
          insert.setBigDecimal(2, new java.math.BigDecimal("2.5"));
          insert.addBatch();
        }
        expect(insert.executeBatch().length == 20 && insert.getGeneratedKeys().next(), "no keys");
        connection.rollback(connection.setSavepoint());
        connection.rollback();
      });
      step("fetch size " + mode, mode, connection -> {
        connection.setAutoCommit(false);
        Statement select = connection.createStatement();
        select.setFetchSize(7);
        ResultSet rows = select.executeQuery("select id from customers");
        int count = 0;
        while (rows.next()) count++;
        expect(count == 100, count + " rows");
      });
    }
    step("metadata", "", connection -> {
      DatabaseMetaData data = connection.getMetaData();
      for (ResultSet rows : new ResultSet[] {
          data.getTables(null, "public", "%", null), data.getColumns(null, "public", "%", "%"),
          data.getPrimaryKeys(null, "public", "orders"), data.getImportedKeys(null, "public", "orders"),
          data.getExportedKeys(null, "public", "customers"), data.getIndexInfo(null, "public", "orders", false, false),
          data.getSchemas(), data.getTypeInfo(), data.getProcedures(null, "public", "%"),
          data.getFunctions(null, "public", "%"), data.getTablePrivileges(null, "public", "%"),
          data.getColumnPrivileges(null, "public", "orders", "%"), data.getUDTs(null, "public", "%", null),
          data.getBestRowIdentifier(null, "public", "orders", 1, true)})
        while (rows.next()) rows.getString(1);
      ResultSet key = data.getPrimaryKeys(null, "public", "orders");
      expect(key.next() && key.getString("COLUMN_NAME").equals("id"), "the key is not shown");
    });
    step("read only", "", connection -> {
      connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
      connection.setReadOnly(true);
      connection.setAutoCommit(false);
      connection.createStatement().executeQuery("select 1");
    });
    step("updatable result", "", connection -> {
      connection.setAutoCommit(false);
      Statement select = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
      ResultSet rows = select.executeQuery("select id, amount from orders where id = 1");
      expect(rows.next(), "no row");
      rows.updateInt(2, 7);
      rows.updateRow();
      connection.rollback();
    });
    step("copy in", "", connection -> {
      connection.setAutoCommit(false);
      new CopyManager(connection.unwrap(BaseConnection.class))
          .copyIn("copy orders (customer, amount) from stdin", new StringReader("1\t5\n"));
      connection.rollback();
    });
    step("timeouts", "options=-c statement_timeout=5000", connection -> {
      Statement select = connection.createStatement();
      select.setQueryTimeout(5);
      select.executeQuery("select 1");
      expect(connection.isValid(3), "not valid");
      connection.setClientInfo("ApplicationName", "x");
    });
    step("autosave", "autosave=always", connection -> {
      connection.setAutoCommit(false);
      Statement select = connection.createStatement();
      select.executeQuery("select 1");
      try {
        select.executeQuery("select 1/0");
      } catch (SQLException expected) {
        select.executeQuery("select 2");
      }
    });
    step("refused drop", "", connection -> connection.createStatement().execute("drop table orders"));
    step("large object", "", connection -> {
      connection.setAutoCommit(false);
      connection.unwrap(PGConnection.class).getLargeObjectAPI().createLO();
    });
  }
}
