-- Sums by quarter too, the calendar's ('2026-Q3') and those of NĐ 09/2019 ('2026-O3', from the 15th of the month before), made of the
-- parts of months there are; how many days each node has stated ('d'); of pairs only what is asked for: all of them, over all time.
DELETE FROM figure WHERE subject='s' AND parent<>(SELECT value FROM meta WHERE key='node');
INSERT INTO figure
  SELECT day,'d',node,coalesce(parent,'-'),CASE final WHEN 1 THEN '{"days":1,"final":1}' ELSE '{"days":1}' END FROM statement;
INSERT INTO figure
  SELECT substr(day,1,8)||CASE WHEN substr(day,9)<'15' THEN '01+' ELSE '15+' END AS part,'d',node,coalesce(parent,'-'),
    CASE sum(final) WHEN 0 THEN json_object('days',count(*)) ELSE json_object('days',count(*),'final',sum(final)) END
  FROM statement GROUP BY part,node,coalesce(parent,'-');
INSERT INTO figure
  SELECT quarter,subject,node,parent,json_group_object(key,number) FROM (
    SELECT quarter,subject,node,part.parent AS parent,counted.key AS key,sum(counted.value) AS number FROM (
      SELECT substr(span,1,4)||'-Q'||((CAST(substr(span,6,2) AS INTEGER)+2)/3) AS quarter,subject,node,parent,counts FROM figure
        WHERE span LIKE '____-__-__+' AND subject NOT LIKE 'p%'
      UNION ALL
      SELECT strftime('%Y',month)||'-O'||((CAST(strftime('%m',month) AS INTEGER)+2)/3),subject,node,parent,counts FROM (
        SELECT date(substr(span,1,8)||'01',CASE substr(span,9,2) WHEN '15' THEN '+1 month' ELSE '+0 month' END) AS month,subject,node,
          parent,counts FROM figure WHERE span LIKE '____-__-__+' AND subject NOT LIKE 'p%')
    ) AS part, json_each(part.counts) AS counted GROUP BY 1,2,3,4,5)
  GROUP BY 1,2,3,4;
CREATE TEMP TABLE pair AS
  SELECT subject,counted.key AS key,sum(counted.value) AS number FROM figure, json_each(counts) AS counted WHERE span='*' GROUP BY 1,2;
DELETE FROM figure WHERE subject LIKE 'p%' AND span<>'=';
UPDATE OR REPLACE figure SET parent='-' WHERE span='=';
INSERT INTO figure SELECT '*',subject,'*','-',json_group_object(key,number) FROM pair WHERE number<>0 GROUP BY subject;
DROP TABLE pair;
