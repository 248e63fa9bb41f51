-- How were the films found in IMDb, and how sure is that?
select
    match_method,
    count(*) as films,
    round(avg(match_confidence), 3) as confidence,
    sum(rating_count) as ratings
from {{ ref('dim_movies') }}
group by match_method
order by films desc, match_method asc
